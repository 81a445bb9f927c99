"""A Twisted process with one connection: `twisted_peer.py ROLE listen|connect PORT [CERT KEY]`; with CERT over TLS.

push, pull: sends the file `big` as a producer of that kind, then loses the connection.
sink: takes everything, pausing now and then; says how many bytes came and their SHA-256.
"""
import hashlib
import sys

from twisted.internet import interfaces, protocol, reactor, ssl
from zope.interface import implementer


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Sender:
    def __init__(self, transport):
        self.transport, self.file, self.stopped = transport, open("big", "rb"), False

    def send_one(self):
        data = self.file.read(50000)
        if data:
            self.transport.write(data)
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        return bool(data)

    def stopProducing(self):
        self.stopped = True


@implementer(interfaces.IPushProducer)
class Push(Sender):
    paused = running = over = False

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False
        if self.running or self.over:
            return
        self.running = True
        while not (self.paused or self.stopped or self.over):
            self.over = not self.send_one()
        self.running = False


@implementer(interfaces.IPullProducer)
class Pull(Sender):
    def resumeProducing(self):
        if not self.stopped:
            self.send_one()


class Peer(protocol.Protocol):
    def connectionMade(self):
        self.hash, self.count, self.since = hashlib.sha256(), 0, 0
        if ROLE == "push":
            producer = Push(self.transport)
            self.transport.registerProducer(producer, True)
            producer.resumeProducing()
        elif ROLE == "pull":
            self.transport.registerProducer(Pull(self.transport), False)

    def dataReceived(self, data):
        self.hash.update(data)
        self.count += len(data)
        self.since += len(data)
        if self.since > 500000:
            self.since = 0
            self.transport.pauseProducing()
            reactor.callLater(0.01, self.transport.resumeProducing)

    def connectionLost(self, reason):
        say("over:", ROLE, self.count, self.hash.hexdigest(), reason.type.__name__)
        reactor.stop()


class Client(protocol.ClientFactory):
    protocol = Peer

    def clientConnectionFailed(self, connector, reason):
        say("failed:", reason)
        reactor.stop()


ROLE, MODE, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
PAPERS = sys.argv[4:]
if MODE == "listen":
    factory = protocol.Factory.forProtocol(Peer)
    if PAPERS:
        context = ssl.DefaultOpenSSLContextFactory(PAPERS[1], PAPERS[0])
        port = reactor.listenSSL(PORT, factory, context, interface="127.0.0.1")
    else:
        port = reactor.listenTCP(PORT, factory, interface="127.0.0.1")
    say("listening on tcp-listen://127.0.0.1:%d" % port.getHost().port)
elif PAPERS:
    with open(PAPERS[0], "rb") as file:
        root = ssl.Certificate.loadPEM(file.read())
    options = ssl.optionsForClientTLS("localhost", trustRoot=root)
    reactor.connectSSL("127.0.0.1", PORT, Client(), options)
else:
    reactor.connectTCP("127.0.0.1", PORT, Client())
reactor.run()
