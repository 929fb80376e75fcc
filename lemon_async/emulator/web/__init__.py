"""The studio: a page that shows what the emulator does, and switches faults on and off.

`studio` answers its requests; `gallery` remembers the jobs, `request_log` lists requests and the ledger, `replay`
writes requests as programs, and `fault_json` reads and writes faults.
"""
