/* Bounds for the benches: the shortest loops the kernel allows, and a load to drive relays with.
 * Not part of Tidegate: nothing here is linked into it. One connection, blocking calls, no error recovery.
 *
 *   send HOST PORT BYTES            blast BYTES zero bytes at a listener
 *   recv PORT [RATE]                take one connection to its end; with RATE, that many bytes a second for 3 s
 *   relay-rw|relay-splice PORT HOST TO
 *   many-rw|many-splice PORT HOST TO      any number of connections, one thread on epoll, 64 KiB a read
 *   file-rw|file-sendfile|file-splice PATH HOST PORT
 *   tofile|tofile-sync PORT PATH
 *   pipe-splice                     stdin to stdout
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MIB (1024 * 1024)
static char buffer[MIB];

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in at(const char *host, const char *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    inet_pton(AF_INET, host, &a.sin_addr);
    return a;
}

static int dial(const char *host, const char *port) {
    struct sockaddr_in a = at(host, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) die("connect");
    return fd;
}

static int take(const char *port) {
    struct sockaddr_in a = at("127.0.0.1", port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 16)) die("listen");
    int peer = accept(fd, 0, 0);
    if (peer < 0) die("accept");
    close(fd);
    return peer;
}

static void copy_rw(int from, int to, size_t chunk) {
    for (;;) {
        ssize_t n = read(from, buffer, chunk);
        if (n < 0) die("read");
        if (n == 0) return;
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(to, buffer + done, n - done);
            if (w < 0) die("write");
            done += w;
        }
    }
}

static void copy_splice(int from, int to) {
    int p[2];
    if (pipe(p)) die("pipe");
    fcntl(p[1], F_SETPIPE_SZ, MIB);
    for (;;) {
        ssize_t n = splice(from, 0, p[1], 0, MIB, SPLICE_F_MOVE);
        if (n < 0) die("splice in");
        if (n == 0) return;
        while (n > 0) {
            ssize_t w = splice(p[0], 0, to, 0, n, SPLICE_F_MOVE | SPLICE_F_MORE);
            if (w < 0) die("splice out");
            n -= w;
        }
    }
}

static void copy_sendfile(int from, int to) {
    for (;;) {
        ssize_t n = sendfile(to, from, 0, 16 * MIB);
        if (n < 0) die("sendfile");
        if (n == 0) return;
    }
}

static void do_send(const char *host, const char *port, long long bytes) {
    int fd = dial(host, port);
    while (bytes > 0) {
        ssize_t n = write(fd, buffer, bytes < MIB ? (size_t)bytes : MIB);
        if (n < 0) die("write");
        bytes -= n;
    }
    shutdown(fd, SHUT_WR);
    while (read(fd, buffer, MIB) > 0) {}
}

static void do_recv(const char *port, long long rate) {
    int fd = take(port);
    double start = now();
    long long got = 0;
    for (;;) {
        size_t want = MIB;
        if (rate) {
            double t = now() - start;
            if (t >= 3) break;
            long long due = (long long)(t * rate) - got;
            if (due <= 0) { usleep(1000); continue; }
            want = due < MIB ? (size_t)due : MIB;
        }
        ssize_t n = read(fd, buffer, want);
        if (n < 0) die("read");
        if (n == 0) break;
        got += n;
    }
    printf("%lld %.6f\n", got, now() - start);
    fflush(stdout);
}

/* One end of a connection through the relay; `other` is the far one. */
struct end { int fd, done; struct end *other; };

static void watch(int ep, struct end *e) {
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET | EPOLLRDHUP, .data.ptr = e};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &ev)) die("epoll_ctl");
}

/* Moves what is there, and waits where the other end is full: a bound, not a fair relay. Says whether it ended. */
static int move(struct end *e, int *p, int spliced) {
    for (;;) {
        ssize_t n = spliced ? splice(e->fd, 0, p[1], 0, 65536, SPLICE_F_NONBLOCK | SPLICE_F_MOVE)
                            : read(e->fd, buffer, 65536);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) { shutdown(e->other->fd, SHUT_WR); return 1; }
        for (ssize_t done = 0; done < n;) {
            ssize_t w = spliced ? splice(p[0], 0, e->other->fd, 0, n - done, SPLICE_F_MOVE)
                                : write(e->other->fd, buffer + done, n - done);
            if (w > 0) { done += w; continue; }
            struct pollfd full = {.fd = e->other->fd, .events = POLLOUT};
            if (errno != EAGAIN || poll(&full, 1, -1) < 0) return 1;
        }
        if (n < 65536 && !spliced) return 0;
    }
}

static void relay_many(const char *port, const char *host, const char *to, int spliced) {
    struct sockaddr_in a = at("127.0.0.1", port), b = at(host, to);
    int one = 1, p[2], ep = epoll_create1(0), in = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(in, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (pipe(p) || bind(in, (struct sockaddr *)&a, sizeof a) || listen(in, 10000)) die("listen");
    struct end listener = {.fd = in};
    watch(ep, &listener);
    for (;;) {
        struct epoll_event ev[256];
        int n = epoll_wait(ep, ev, 256, -1);
        for (int i = 0; i < n; i++) {
            struct end *e = ev[i].data.ptr;
            if (e != &listener) {
                if (!e->done && move(e, p, spliced)) {
                    e->done = 1;
                    if (e->other->done) { close(e->fd); close(e->other->fd); }
                }
                continue;
            }
            for (int fd; (fd = accept4(in, 0, 0, SOCK_NONBLOCK)) >= 0;) {
                struct end *pair = calloc(2, sizeof *pair);
                pair[0] = (struct end){.fd = fd, .other = pair + 1};
                pair[1] = (struct end){.fd = socket(AF_INET, SOCK_STREAM, 0), .other = pair};
                if (connect(pair[1].fd, (struct sockaddr *)&b, sizeof b)) die("connect");
                fcntl(pair[1].fd, F_SETFL, O_NONBLOCK);
                for (int k = 0; k < 2; k++) {
                    setsockopt(pair[k].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    watch(ep, pair + k);
                }
            }
        }
    }
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "send") && argc == 5) do_send(argv[2], argv[3], atoll(argv[4]));
    else if (!strcmp(mode, "recv") && argc >= 3) do_recv(argv[2], argc > 3 ? atoll(argv[3]) : 0);
    else if (!strncmp(mode, "relay-", 6) && argc == 5) {
        int in = take(argv[2]), out = dial(argv[3], argv[4]);
        if (!strcmp(mode, "relay-splice")) copy_splice(in, out);
        else copy_rw(in, out, MIB);
        shutdown(out, SHUT_WR);
        copy_rw(out, in, MIB);
    } else if (!strncmp(mode, "many-", 5) && argc == 5) {
        relay_many(argv[2], argv[3], argv[4], !strcmp(mode, "many-splice"));
    } else if (!strncmp(mode, "file-", 5) && argc == 5) {
        int in = open(argv[2], O_RDONLY), out = dial(argv[3], argv[4]);
        if (in < 0) die(argv[2]);
        if (!strcmp(mode, "file-sendfile")) copy_sendfile(in, out);
        else if (!strcmp(mode, "file-splice")) copy_splice(in, out);
        else copy_rw(in, out, 256 * 1024);
        shutdown(out, SHUT_WR);
        copy_rw(out, in, MIB);
    } else if (!strncmp(mode, "tofile", 6) && argc == 4) {
        int in = take(argv[2]), out = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (out < 0) die(argv[3]);
        copy_rw(in, out, MIB);
        if (!strcmp(mode, "tofile-sync") && fsync(out)) die("fsync");
    } else if (!strcmp(mode, "pipe-splice")) copy_splice(0, 1);
    else { fprintf(stderr, "bound: see the head of bound.c\n"); return 2; }
    return 0;
}
