"""Engines that are elsewhere: what every backend behind HTTP shares.

    endpoint    where it is, with what key, how patient and how persistent the caller is: ``Endpoint``
    dialect     THE CONTRACT of one wire protocol, free of I/O: requests to bytes, bytes to events
    framing     bytes as lines or server-sent events, whatever they are cut into
    failures    what an HTTP error means, in the SDK's own errors
    tries       one request's tries: what was done, what is next
    retry       whether a failure is worth another try, and when: attempts, a token bucket, a circuit breaker; pure
    clock       how long may still be waited: to connect, for the first byte, between two, in all
    patience    httpx's transports, taught to ask that clock
    transport   the one thing that touches the network, once for threads and once for asyncio, on httpx
    served      who serves Llama 4 by the token: names, limits, prices, ends; ``served.csv`` and the user's own file
    engine      ``RemoteEngine``: an ``Engine`` made of a dialect and a transport

A plugin writes a dialect and a backend; the rest is here.
"""
