"""gRPC: messages of the contract to calls of ingest and queries, and back.

server.py         options, port, health, reflection, start and stop
interceptors.py   decodes requests, turns errors into statuses; but for stalls.py nobody else aborts
                  a call
status.py         the one table: domain error -> status code and ErrorReason
services.py       all services of the contract, and how each is registered
pages.py          how many bytes a page may have
absent.py         methods of later issues: UNIMPLEMENTED NOT_IMPLEMENTED
*_servicer.py     one servicer a service: convert, call once, convert back
*_methods.py      parts of one
converters/       one module a proto file
"""
