"""Twisted's FTP server over one directory: python twisted_server.py PORT DIR. Any user, with the password secret."""
import sys
from twisted.cred import checkers, credentials, error, portal
from twisted.internet import defer, reactor
from twisted.protocols import ftp
from twisted.python import filepath
from zope.interface import implementer

@implementer(portal.IRealm)
class Realm:
    def requestAvatar(self, avatarId, mind, *interfaces):
        return ftp.IFTPShell, ftp.FTPShell(filepath.FilePath(sys.argv[2])), lambda: None

# Versions of Twisted differ in whether a password is bytes.
@implementer(checkers.ICredentialsChecker)
class Checker:
    credentialInterfaces = (credentials.IUsernamePassword,)
    def requestAvatarId(self, asked):
        if asked.password in ("secret", b"secret"):
            return defer.succeed(asked.username)
        return defer.fail(error.UnauthorizedLogin())

factory = ftp.FTPFactory(portal.Portal(Realm(), [Checker()]))
reactor.listenTCP(int(sys.argv[1]), factory, interface="127.0.0.1")
reactor.run()
