"""`python -m lemon_async` is the command `lemon-async`."""

from lemon_async.cli import main

main()
