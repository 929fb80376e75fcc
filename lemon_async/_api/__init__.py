"""The service's contract: which requests are valid, how they are written, and how responses are read.

Pure: no I/O, no clock, no asyncio. Begin with `validation` for requests and `job_responses` for responses. A new model
family is an entry in `families`; a new request field goes into `lemon_async/requests.py` (twice: the data class and the
fields that editors complete), `field_rules` and the `families` that have it; a new check of results into
`job_responses`.
"""
