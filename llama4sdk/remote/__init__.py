"""Engines that are elsewhere: what every backend behind HTTP shares.

    dialect            THE CONTRACT of one wire protocol, free of I/O: requests to bytes, bytes to events
    engine             ``RemoteEngine``: an ``Engine`` made of a dialect and a transport
    attempts           one request's attempts: what happened, and whether it is sent again
    retry              when a failure is worth another attempt: delays, a token bucket, a circuit breaker; pure
    transport          calls out, replies in, over httpx, in one event loop
    body               a response's body: read ahead, and decompressed in pieces of bounded size
    clients            the httpx clients that calls are sent with
    deadlines          how long may still be waited: to connect, for the first byte, between two, in all
    loop_thread        the event loops in which synchronous calls run
    tls_and_proxy      trusted certificates, proxies of the environment
    sse                bytes as lines or server-sent events, whatever they are cut into; pure
    connection_errors  what breaks on the way, in the SDK's own errors; pure
    status_errors      HTTP errors as the SDK's own; pure
    redaction          no secret in any error; pure

What dialects and backends share: chat_messages, tool_call_fragments, vectors, json_fields, discovery.

A plugin writes a dialect and a backend; the rest is here. Whatever waits is asynchronous; see ``RemoteEngine`` for how
synchronous callers are served.
"""
