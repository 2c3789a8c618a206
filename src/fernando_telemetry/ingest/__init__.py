"""The write path, one stage a file.

    bytes of a batch
      |  wire.py          splits hello, number and record bytes; looks into nothing else
      |  stream.py        the rules of one stream: hello, numbers, window, acks in order
      |  admission.py     byte budget: when it is used up, streams are not read
      v
    group_commit.py       the queue (batch_queue.py) of what waits (pending.py), and writers that
      |                   take it as one group
      |  pending_check.py    what a writer took -> what it flushes, and the answers
      |  group_check.py      a group's batches together:
      |    decode.py        bytes -> messages, which say what is decodable
      |    columnar/        bytes -> Arrow -> checks of whole columns -> blocks of rows, suspects
      |    record_check.py  suspects, and what has no columns: checks/ -> rows and verdicts
      |    content_*.py     the content's signature, by which a repeat is known
      |  rejected.py      bytes of rejected records, where they are kept; replay.py sends them again
      |  storage/series   identities -> series ids
      v
    storage/flush         marks -> COPY -> flushes -> COMMIT
      |
      v
    acks in order, or the stream ends with the trouble that may pass

service.py is the door for transport; it knows no gRPC. disk_budget.py closes group_commit while
the disk has too little room. counters.py counts what happens, and own_metrics.py records it as the
server's own metrics.
"""
