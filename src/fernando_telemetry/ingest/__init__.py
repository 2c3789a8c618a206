"""The write path, one stage a file.

    bytes of a batch
      |  wire.py          splits hello, number and record bytes; looks into nothing else
      |  stream.py        the rules of one stream: hello, numbers, window, acks in order
      |  admission.py     byte budget: when it is used up, streams are not read
      v
    group_commit.py       the queue, and writers that take what waits as one group
      |  decode.py        bytes -> messages -> checks/ -> rows and verdicts, in slices
      |  content_*.py     the content's signature, by which a repeat is known
      |  storage/series   identities -> series ids
      v
    storage/flush         marks -> COPY -> flushes -> COMMIT
      |
      v
    acks in order, or the stream ends with the trouble that may pass

service.py is the door for transport; it knows no gRPC. counters.py counts what happens, and
own_metrics.py records it as the server's own metrics.
"""
