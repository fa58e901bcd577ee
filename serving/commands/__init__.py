"""One file a command of `xuanyuan`: its arguments and what it runs."""
