"""Sweeps: hundreds of runs, on every core or a Ray cluster, through crashes.

`grid` makes the cells, `schedule` decides what is done when, `local` and `cluster` do it, in a
`worker` process or on a `remote` node, with `work`, telling `news`; `board` shows it, `manifest`
and `standing` are for `ntmbench status`, `conduct` is the command, `plan` its dry run. Importing
this imports nothing.
"""
