"""HTTP/2 on the wire, for both roles: frames, HPACK, streams and flow control (RFC 9113 and RFC 7541).

How to use it: `codec = ServerConnection(owner, options, stats)` or `ClientConnection(...)`; `owner` is told what
concerns the connection (`sending.Owner`), and a stream what concerns itself (the hooks of `stream.Stream`, which
whoever uses the codec subclasses).

- What was read goes into `codec.receive(data)`; hooks are called while it runs.
- What is to be written is what `codec.take()` answers: every frame since the last call in one piece. When there is
  something for the first time since then, outside of `receive`, `owner.output_pending()` asks for that call: an owner
  gathers a turn of its loop by it. After `receive` an owner takes in any case.
- A server's streams are made by `owner.new_stream()`, and hear `head_received`. A client makes its stream and gives it
  to `codec.send_request(stream, head, scheme, done)`, while `codec.may_open()`.
- `codec.send_head`, `send_payload`, `send_trailers` and `reset` say something on a stream; on one that is closed they
  say nothing. Header lines are `b"name: value"`, names in any case; connection-specific ones are left out.
- Payload that the peer's windows do not allow yet waits in the stream; `write_blocked` and `write_unblocked` tell its
  producer. `codec.pause(stream)` and `resume(stream)` hold back and give the peer's credit.
- A broken connection puts a GOAWAY into the output, sets `codec.error` and calls `owner.connection_broke(error)`.

MUST NOT do I/O, start timers or know of routes and clusters: bytes in, calls and bytes out.
"""
