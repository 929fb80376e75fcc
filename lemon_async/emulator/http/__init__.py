"""The emulator's HTTP server; all rules of the API are in `service`.

Begin with `handler`, which takes a request from its head to its response. A new route is a row in `routes` and in
`openapi`, and a method of `endpoints`; a new fault action is a class in `actions` and a rule in `replies`, if it
replaces the response, or in `raw_response`, if it changes the bytes on the wire.
"""
