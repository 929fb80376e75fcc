"""Formats of bytes and text: pictures, base64 in JSON, lenient JSON, safe text for messages.

Pure, and knows nothing of the service. Begin with `pictures`, which checks every picture, and
`base64_json`, which takes pictures out of JSON while it arrives.
"""
