"""A Twisted process for the tests: one mode per argument, one line on standard output per event."""

import hashlib
import os
import sys

from twisted.cred import checkers, portal
from twisted.internet import defer, protocol, reactor
from twisted.python import log
from twisted.spread import banana, jelly, pb, util
from zope.interface import implementer


def say(*words):
    print(*words, flush=True)


class Codec(banana.Banana):
    """Decodes and encodes one expression at a time in a given dialect."""

    def __init__(self, dialect):
        super().__init__()
        self.setPrefixLimit(64)
        self.currentDialect = dialect
        self.transport = self
        self.got = []
        self.out = b""

    def expressionReceived(self, expression):
        self.got.append(expression)

    def write(self, data):
        self.out += data


def codec():
    """Reads lines `dialect banana|jelly hex`; answers with what Twisted makes of them, encoded again."""
    for line in sys.stdin:
        dialect, layer, data = line.split()
        peer = Codec(dialect.encode())
        try:
            peer.dataReceived(bytes.fromhex(data))
            (expression,) = peer.got
            if layer == "jelly":
                value = jelly.unjelly(expression, jelly.globalSecurity)
                expression = jelly.jelly(value, jelly.globalSecurity)
            peer.sendEncoded(expression)
            say("ok", peer.out.hex())
        except Exception as error:
            say("error", type(error).__name__)


def samples():
    """Encodes a fixed set of Python values, jellied, in both dialects."""
    shared = [1, 2]
    values = [
        None, True, False, 0, 1, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63, 2**448 - 1, -(2**448) + 1,
        0.0, 1.5, -1e300, b"", b"bytes", b"None", "", "text", "\u00e4\u20ac", [], [1, [2]], (), (1, "x"), {}, {"k": b"v"},
        {1: [None]}, {7}, frozenset([8]), [shared, shared], b"x" * 5000, "message", b"message",
    ]
    for dialect in (b"none", b"pb"):
        for value in values:
            peer = Codec(dialect)
            peer.sendEncoded(jelly.jelly(value, jelly.globalSecurity))
            say(dialect.decode(), peer.out.hex(), repr(value) if len(repr(value)) < 200 else "long")


class Root(pb.Root):
    def __init__(self, path=None):
        self.path = path
        self.kept = None

    def remote_echo(self, *args, **kwargs):
        return [list(args), kwargs]

    def remote_raise(self, text):
        raise ValueError(text)

    def remote_pb_error(self, text):
        raise pb.Error(text)

    def remote_keep(self, thing):
        self.kept = thing
        return None

    def remote_is_kept(self, thing):
        return thing is self.kept

    def remote_call_kept(self, method, *args):
        return self.kept.callRemote(method, *args)

    def remote_drop(self):
        self.kept = None

    def remote_child(self):
        return Root()

    def remote_say(self, text):
        say("said", text)

    def remote_string(self, collector, length):
        util.StringPager(collector, b"0123456789abcdef" * (length // 16))

    def remote_file(self, collector):
        util.FilePager(collector, open(self.path, "rb"))

    def remote_forever(self, collector):
        class Forever(util.Pager):
            def nextPage(self):
                return b"x" * 8192

        Forever(collector)

    def remote_cut(self, collector, pages):
        class Cut(util.Pager):
            left = pages

            def nextPage(self):
                self.left -= 1
                if self.left == 0:
                    self.collector.broker.transport.abortConnection()
                return b"x" * 8192

        Cut(collector)

    def remote_give_up(self, collector):
        return None


@implementer(portal.IRealm)
class Realm:
    def requestAvatar(self, avatar_id, mind, *interfaces):
        class Avatar(pb.Avatar):
            def perspective_who(self):
                return avatar_id

        class Guest(pb.Avatar):
            def perspective_who(self):
                return "guest"

        avatar = Guest() if avatar_id is checkers.ANONYMOUS else Avatar()
        return pb.IPerspective, avatar, lambda: say("logout")


def listen(factory):
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    say("port", port.getHost().port)
    reactor.run()


def serve(path=None):
    listen(pb.PBServerFactory(Root(path)))


def serve_login():
    store = checkers.InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
    listen(pb.PBServerFactory(portal.Portal(Realm(), [store, checkers.AllowAnonymousAccess()])))


class Hasher(pb.Referenceable):
    """A collector that hashes, and stops reading for a while after some pages if asked to."""

    def __init__(self, name, pause_after=None, quit_after=None):
        self.name, self.pause_after, self.quit_after = name, pause_after, quit_after
        self.hash, self.bytes, self.pages = hashlib.md5(), 0, 0

    def remote_gotPage(self, page):
        self.hash.update(page)
        self.bytes += len(page)
        self.pages += 1
        if self.pages == self.pause_after:
            say("paused")
            self.broker.transport.pauseProducing()
            reactor.callLater(2, self.go_on)
        if self.pages == self.quit_after:
            say("quitting")
            os._exit(1)

    def go_on(self):
        say("resumed")
        self.broker.transport.resumeProducing()

    def remote_endedPaging(self):
        say("ended", self.name, self.bytes, self.hash.hexdigest())


class Client(pb.PBClientFactory):
    def clientConnectionLost(self, connector, reason, reconnecting=0):
        super().clientConnectionLost(connector, reason, reconnecting)
        say("lost", reason.type.__name__)
        reactor.callLater(0, reactor.stop)


def connect(port):
    factory = Client()
    reactor.connectTCP("127.0.0.1", int(port), factory)
    return factory


@defer.inlineCallbacks
def fetch(port, name, **options):
    root = yield connect(port).getRootObject()
    collector = Hasher(name, **options)
    collector.broker = root.broker
    try:
        yield root.callRemote(name, collector)
        say("answered")
    except Exception as error:
        say("raised", error)


def fetch_pausing(port, name):
    return fetch(port, name, pause_after=20)


def fetch_quitting(port, name):
    return fetch(port, name, quit_after=20)


@defer.inlineCallbacks
def get_all(port, name):
    """As any program with Twisted would: `getAllPages`, then close."""
    factory = connect(port)
    root = yield factory.getRootObject()
    pages = yield util.getAllPages(root, name)
    data = b"".join(pages)
    say("got", len(data), hashlib.md5(data).hexdigest())
    factory.disconnect()


@defer.inlineCallbacks
def fifty(port):
    """Fifty collectors on one connection; says in which order pages came."""
    root = yield connect(port).getRootObject()
    order, ended = [], []

    class Numbered(pb.Referenceable):
        def __init__(self, number):
            self.number = number

        def remote_gotPage(self, page):
            order.append(self.number)

        def remote_endedPaging(self):
            ended.append(self.number)
            if len(ended) == 50:
                say("order", *order)

    yield root.callRemote("fifty", [Numbered(number) for number in range(50)])


@defer.inlineCallbacks
def calls(port):
    """Every kind of call, as a client."""
    root = yield connect(port).getRootObject()
    answer = yield root.callRemote("echo", 1, -(2**70), b"b", "s", None, True, [1.5], (2,), {"k": 3}, {4}, named=5)
    say("echo", repr(answer))
    try:
        yield root.callRemote("raise")
    except Exception as error:
        say("raised", error)
    root.callRemote("quiet", "psst", pbanswer=False)
    child = yield root.callRemote("child")
    answer = yield child.callRemote("who")
    say("child", answer)
    same = yield root.callRemote("same", child)
    say("same", same)
    del child
    import gc

    gc.collect()
    answer = yield root.callRemote("released")
    say("released", answer)
    root.broker.transport.loseConnection()


@defer.inlineCallbacks
def login(port, username, password):
    from twisted.cred import credentials

    factory = connect(port)
    if username:
        who = credentials.UsernamePassword(username.encode(), password.encode())
    else:
        who = credentials.Anonymous()
    try:
        avatar = yield factory.login(who)
        answer = yield avatar.callRemote("who")
        say("avatar", answer)
    except Exception as error:
        say("refused", error)
    factory.disconnect()


def main():
    mode, args = sys.argv[1], sys.argv[2:]
    if mode in ("codec", "samples", "serve", "serve_login"):
        globals()[mode](*args)
        return
    reactor.callWhenRunning(lambda: defer.maybeDeferred(globals()[mode], *args).addErrback(lambda why: say("failed", why)))
    reactor.run()


main()
