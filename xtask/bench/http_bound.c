/* Bounds for the HTTP benches: a server that knows just enough HTTP to be measured, and a client that uploads.
 * Not part of Tidegate: nothing here is linked into it. No error recovery, no checks of what the peer says.
 *
 *   serve PORT DIR WORKERS   small.txt from memory, big.bin by sendfile; a PUT is read and thrown away, or, to a path that
 *                            begins with /file or /synced, written to DIR as it comes (frames included), and synced
 *   put PORT PATH BYTES      a chunked PUT in chunks of 64 KiB; prints the seconds until the answer
 *   get PORT PATH            a GET into one buffer; prints the seconds
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
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1024 * 1024)
#define FDS 65536
static char buffer[MIB];

enum state { HEAD, SENDING, TAKING };
static struct { enum state state; off_t sent; int file, sync; char tail[8]; } peers[FDS];
static char small[1400];
static int small_bytes, big;
static off_t big_bytes;
static char big_head[128];
static const char *dir;

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void all(int fd, const char *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t w = write(fd, data + done, bytes - done);
        if (w < 0 && errno != EAGAIN) die("write");
        if (w > 0) done += w;
    }
}

static void want(int poll, int fd, int events, int how) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poll, how, fd, &event)) die("epoll_ctl");
}

static void drop(int fd) {
    if (peers[fd].file > 0) close(peers[fd].file);
    memset(&peers[fd], 0, sizeof peers[fd]);
    close(fd);
}

/* Keeps the last five bytes of a body: the last chunk ends with them. */
static int body(int fd, const char *data, size_t bytes) {
    char seen[16];
    size_t keep = bytes < 5 ? bytes : 5;
    if (peers[fd].file > 0) all(peers[fd].file, data, bytes);
    memcpy(seen, peers[fd].tail, 5);
    memcpy(seen + 5, data + bytes - keep, keep);
    memcpy(peers[fd].tail, seen + keep, 5);
    return !memcmp(peers[fd].tail, "0\r\n\r\n", 5);
}

static void on_readable(int poll, int fd) {
    static const char created[] = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    ssize_t n = read(fd, buffer, peers[fd].state == TAKING ? MIB : 8192);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    if (peers[fd].state == HEAD) {
        if (!memcmp(buffer, "PUT", 3)) {
            char *end = memmem(buffer, n, "\r\n\r\n", 4);
            if (!end) die("a head in one read");
            if (memmem(buffer, n, "100-continue", 12)) all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
            peers[fd].state = TAKING;
            peers[fd].sync = !memcmp(buffer + 4, "/synced", 7);
            if (peers[fd].sync || !memcmp(buffer + 4, "/file", 5)) {
                char path[4096];
                snprintf(path, sizeof path, "%s/bound.bin", dir);
                peers[fd].file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
            }
            n -= end + 4 - buffer;
            memmove(buffer, end + 4, n);
            if (n == 0) return;
        } else if (!memcmp(buffer, "GET /big", 8)) {
            all(fd, big_head, strlen(big_head));
            peers[fd].state = SENDING;
            want(poll, fd, EPOLLOUT, EPOLL_CTL_MOD);
            return;
        } else {
            all(fd, small, small_bytes);
            return;
        }
    }
    if (body(fd, buffer, n)) {
        if (peers[fd].file > 0 && ((peers[fd].sync && fsync(peers[fd].file)) || close(peers[fd].file))) die("fsync");
        all(fd, created, sizeof created - 1);
        memset(&peers[fd], 0, sizeof peers[fd]);
    }
}

static void on_writable(int poll, int fd) {
    ssize_t n = sendfile(fd, big, &peers[fd].sent, MIB);
    if (n < 0 && errno != EAGAIN) drop(fd);
    else if (peers[fd].sent == big_bytes) {
        memset(&peers[fd], 0, sizeof peers[fd]);
        want(poll, fd, EPOLLIN, EPOLL_CTL_MOD);
    }
}

static void work(int port) {
    int one = 1, poll = epoll_create1(0), fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1024)) die("listen");
    want(poll, fd, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int peer = events[i].data.fd;
            if (peer == fd) {
                peer = accept4(fd, 0, 0, SOCK_NONBLOCK);
                if (peer < 0 || peer >= FDS) continue;
                setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                want(poll, peer, EPOLLIN, EPOLL_CTL_ADD);
            } else if (events[i].events & EPOLLOUT) on_writable(poll, peer);
            else on_readable(poll, peer);
        }
    }
}

static void do_serve(int port, int workers) {
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/big.bin", dir);
    big = open(path, O_RDONLY);
    if (big < 0 || fstat(big, &st)) die(path);
    big_bytes = st.st_size;
    snprintf(big_head, sizeof big_head, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n", (long long)big_bytes);
    small_bytes = snprintf(small, 200, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n");
    memset(small + small_bytes, 'x', 1024);
    small_bytes += 1024;
    for (int i = 1; i < workers; i++)
        if (fork() == 0) work(port);
    work(port);
}

static int dial(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) die("connect");
    return fd;
}

static void do_put(int port, const char *path, long long bytes) {
    static char piece[65536 + 32];
    int fd = dial(port), head = snprintf(piece, 32, "%x\r\n", 65536);
    double start = now();
    memset(piece + head, 'x', 65536);
    memcpy(piece + head + 65536, "\r\n", 2);
    int n = snprintf(buffer, MIB, "PUT %s HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n", path);
    all(fd, buffer, n);
    for (; bytes >= 65536; bytes -= 65536) all(fd, piece, head + 65536 + 2);
    all(fd, "0\r\n\r\n", 5);
    if (read(fd, buffer, 12) != 12 || buffer[9] != '2') die("the answer to a PUT");
    printf("%.6f\n", now() - start);
}

static void do_get(int port, const char *path) {
    int fd = dial(port);
    double start = now();
    long long total = 0, announced = -1;
    int n = snprintf(buffer, MIB, "GET %s HTTP/1.1\r\nHost: b\r\n\r\n", path);
    all(fd, buffer, n);
    while (announced < 0 || total < announced) {
        ssize_t got = read(fd, buffer, MIB - 1);
        if (got <= 0) die("the answer to a GET");
        if (announced < 0) {
            buffer[got] = 0;
            char *length = strcasestr(buffer, "content-length:"), *end = strstr(buffer, "\r\n\r\n");
            if (!length || !end) die("the head of an answer");
            announced = atoll(length + 15);
            got -= end + 4 - buffer;
        }
        total += got;
    }
    printf("%.6f\n", now() - start);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "serve") && argc == 5) { dir = argv[3]; do_serve(atoi(argv[2]), atoi(argv[4])); }
    else if (!strcmp(mode, "put") && argc == 5) do_put(atoi(argv[2]), argv[3], atoll(argv[4]));
    else if (!strcmp(mode, "get") && argc == 4) do_get(atoi(argv[2]), argv[3]);
    else { fprintf(stderr, "how to call it stands at the top of http_bound.c\n"); return 2; }
    return 0;
}
