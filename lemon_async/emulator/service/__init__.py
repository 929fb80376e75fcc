"""The rules of the service: validation, prices, tasks, billing, files. No sockets, no HTTP.

Begin with `image_jobs`: it turns a `Call` (in `messages`) into a `JobSpec` (`job_spec`, `edits`), has the `Store`
accept it as a `Task` and returns a `Reply`. A new model family is an entry in `model_families`; a new request field is
a check in `field_checks`, an entry in the families that accept it and, if it changes the result, an attribute of
`JobSpec`.
"""
