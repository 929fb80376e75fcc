"""The studio: a page that shows what the emulator does, and switches faults on and off; and its data in files.

`studio` answers its requests; `gallery` remembers the jobs, `request_log` lists requests and the ledger, `replay`
writes requests as programs, `fault_json` reads and writes faults, and `ledger_file` appends the ledger to a file.
"""
