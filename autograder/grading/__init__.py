"""One submission in, one result out: normalised, run in a sandbox, tested from outside it."""
