"""Worker processes on one port: how one server uses more than one core.

    held_port   the parent probes the port, then holds it bound, but not listening
    order       what the parent tells a worker, and what the worker answers
    process     one worker process, from its start to its end
    group       keeps N of them alive, and stops them
    lifeline    the worker's side: it ends when its parent ends

The parent (supervisor.py) owns the database; a worker is a server on that database like any other,
so all that holds over several servers holds over workers.
"""
