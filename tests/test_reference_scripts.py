"""The scripts on the documentation pages work against `lemon-async emulator`, with only the host changed.

They are the examples of the pages "Create image" and "Get image status": plain `requests`, without `lemon_async`.
"""

import re
import subprocess
import sys
import time

import pytest
import requests

SERVICE = "https://api.lemondata.cc"


def poll_image_task(base_url, task_id, api_key, max_wait=300, interval=3):
    """Poll for image generation result with timeout ("Get image status")."""
    url = f"{base_url}/v1/tasks/{task_id}"
    headers = {"Authorization": f"Bearer {api_key}"}

    start_time = time.time()
    while time.time() - start_time < max_wait:
        response = requests.get(url, headers=headers)
        data = response.json()

        if data["status"] == "completed":
            return data["data"][0]["url"]
        elif data["status"] == "failed":
            raise Exception(data.get("error", "Generation failed"))

        time.sleep(interval)

    raise TimeoutError(f"Task {task_id} did not complete within {max_wait}s")


def generate_image(base_url, api_key, prompt, model="midjourney", *, is_early=False, interval=3):
    """Create an image inline or as a task ("Create image"; the early page ignores `poll_url`)."""
    response = requests.post(
        f"{base_url}/v1/images/generations",
        headers={"Authorization": f"Bearer {api_key}"},
        json={"model": model, "prompt": prompt},
    )
    data = response.json()

    if data.get("status") == "pending":
        task_id = data["task_id"]
        poll_url = None if is_early else data.get("poll_url")
        path = poll_url or (f"/v1/images/generations/{task_id}" if is_early else f"/v1/tasks/{task_id}")
        while True:
            status_resp = requests.get(f"{base_url}{path}", headers={"Authorization": f"Bearer {api_key}"})
            status_data = status_resp.json()

            if status_data["status"] == "completed":
                return status_data["data"][0]["url"]
            elif status_data["status"] == "failed":
                raise Exception(status_data.get("error", "Generation failed"))

            time.sleep(interval)
    else:
        return data["data"][0]["url"]


@pytest.fixture(scope="module")
def service():
    """Run `lemon-async emulator` as a process; its first two lines are its address and an accepted key."""
    command = [sys.executable, "-m", "lemon_async", "emulator", "--speed", "6000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            base_url = process.stdout.readline().strip().removeprefix("export LEMONDATA_BASE_URL=")
            api_key = process.stdout.readline().strip().removeprefix("export LEMONDATA_API_KEY=")
            yield base_url, api_key
        finally:
            process.terminate()


@pytest.mark.parametrize("model", ["midjourney", "flux-pro", "ideogram-v3", "dall-e-3", "gemini-3-pro-image-preview"])
@pytest.mark.parametrize("is_early", [True, False])
def test_generate_image_script_gets_a_picture(service, model, is_early):
    """Both versions of the script end with a link to a PNG."""
    url = generate_image(*service, "a beautiful sunset over mountains", model, is_early=is_early, interval=0.01)
    picture = requests.get(url)
    assert picture.status_code == 200
    assert picture.headers["Content-Type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")


def test_poll_image_task_script_gets_a_picture(service):
    """The polling script of "Get image status" follows a task to its link."""
    base_url, api_key = service
    created = requests.post(
        f"{base_url}/v1/images/generations",
        headers={"Authorization": f"Bearer {api_key}"},
        json={"model": "flux-pro", "prompt": "a beautiful sunset over mountains"},
    ).json()
    assert re.fullmatch(r"ldtask_[0-9a-f]{32}", created["task_id"])
    image_url = poll_image_task(base_url, created["task_id"], api_key, interval=0.01)
    assert requests.get(image_url).content.startswith(b"\x89PNG")


def test_status_answer_has_the_fields_of_the_page(service):
    """A pending task has the documented fields at all three addresses."""
    base_url, api_key = service
    headers = {"Authorization": f"Bearer {api_key}"}
    body = {"model": "flux-pro", "prompt": "a beautiful sunset over mountains"}
    created = requests.post(f"{base_url}/v1/images/generations", headers=headers, json=body).json()
    for path in ("/v1/tasks/", "/v1/images/generations/", "/v1/images/"):
        answer = requests.get(f"{base_url}{path}{created['task_id']}", headers=headers).json()
        assert {"created", "id", "task_id", "poll_url", "status", "data"} <= answer.keys()
        assert answer["data"][0]["revised_prompt"]
        assert answer["id"] == answer["task_id"] == created["task_id"]
