"""Engines that are elsewhere: what every backend behind HTTP shares.

    endpoint    where it is, with what key, how patient and how persistent the caller is: ``Endpoint``
    dialect     THE CONTRACT of one wire protocol, free of I/O: requests to bytes, bytes to events
    framing     bytes as lines or server-sent events, whatever they are cut into
    failures    what an HTTP error means, in the SDK's own errors
    tries       one request's tries: what was done, what is next
    retry       whether a failure is worth another try, and when: attempts, a token bucket, a circuit breaker; pure
    secrecy     no secret in any error
    clock       how long may still be waited: to connect, for the first byte, between two, in all
    network     sockets that ask that clock at every step, for threads; anetwork, for asyncio; both httpcore's backends
    surroundings  certificates and proxies
    connections one to send each request on, new or used before
    breaks      what breaks on the way, in the SDK's own errors
    pictures    images as bytes that travel
    unpacking   packed bodies, in pieces of bounded size
    transport   calls out, replies in, once for threads and once for asyncio
    served      who serves Llama 4 by the token: names, limits, prices, ends; ``endpoints.csv`` and the user's own file
    engine      ``RemoteEngine``: an ``Engine`` made of a dialect and a transport

A plugin writes a dialect and a backend; the rest is here.
"""
