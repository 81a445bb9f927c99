"""A Twisted peer: on each connection the first line says what to be; the pattern is bytes 0..250 repeated.

push N, pull N: a producer of that kind writes N bytes, then the connection is lost.
sink: takes everything, pausing now and then; says on stdout how many bytes came and whether they were right.
"""
import sys

from twisted.internet import interfaces, protocol, reactor, ssl
from zope.interface import implementer

PATTERN = bytes(range(251)) * 300


def piece(offset, length):
    start = offset % 251
    return PATTERN[start : start + length]


class Source:
    def __init__(self, transport, total):
        self.transport, self.left, self.offset, self.paused = transport, total, 0, False

    def write_one(self):
        length = min(self.left, 50000)
        self.left -= length
        data = piece(self.offset, length)
        self.offset += length
        self.transport.write(data)

    def end(self):
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def stopProducing(self):
        self.left, self.paused = 0, True


@implementer(interfaces.IPushProducer)
class Push(Source):
    running = False

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False
        if self.running:
            return
        self.running = True
        while self.left and not self.paused:
            self.write_one()
        self.running = False
        if not self.left and not self.paused:
            self.end()


@implementer(interfaces.IPullProducer)
class Pull(Source):
    def resumeProducing(self):
        if self.left:
            self.write_one()
        else:
            self.end()


class Peer(protocol.Protocol):
    def connectionMade(self):
        self.head, self.role, self.got, self.right = b"", None, 0, True

    def dataReceived(self, data):
        if self.role is None:
            self.head += data
            if b"\n" not in self.head:
                return
            line, data = self.head.split(b"\n", 1)
            words = line.split()
            self.role = words[0]
            if self.role == b"push":
                source = Push(self.transport, int(words[1]))
                self.transport.registerProducer(source, True)
                source.resumeProducing()
            elif self.role == b"pull":
                self.transport.registerProducer(Pull(self.transport, int(words[1])), False)
        if self.role == b"sink" and data:
            while data:
                part, data = data[:50000], data[50000:]
                self.right = self.right and part == piece(self.got, len(part))
                self.got += len(part)
            self.transport.pauseProducing()
            reactor.callLater(0.001, self.go_on)

    def go_on(self):
        if self.connected:
            self.transport.resumeProducing()

    def connectionLost(self, reason):
        if self.role == b"sink":
            print("sink", self.got, "right" if self.right else "wrong", reason.type.__name__, flush=True)


factory = protocol.Factory.forProtocol(Peer)
if len(sys.argv) > 1:
    context = ssl.DefaultOpenSSLContextFactory(sys.argv[2], sys.argv[1])
    port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
else:
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
print("port", port.getHost().port, flush=True)
reactor.run()
