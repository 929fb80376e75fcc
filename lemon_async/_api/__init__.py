"""The service's contract: which requests are valid, how they are written, and how responses are read.

Pure: no I/O, no clock, no asyncio. Begin with `validation` for requests and `job_responses` for responses.

* A new model family: an entry in `families`, and its models in `cli/fields`.
* A new request field: `lemon_async/requests.py` (data class and fields that editors complete), its rule in
  `families`, with the families that have it, and a row of `cli/fields`.
* A new check of results: `job_responses` for what the service says, `_formats/pictures` for the bytes.
"""
