/* A long link for the benches: two network namespaces of its own, and every packet between them late by DELAY_MS each way.
 * No rate, no loss, room for 64 MiB in each direction. Not part of Tidegate: nothing here is linked into it.
 *
 *   long_link DELAY_MS     prints "NEAR FAR": processes to enter the namespaces by; near is 10.77.0.1, far 10.77.0.2
 *
 * Two TUN devices and this process in between: netem is not in every kernel, and needs no less of rights.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define ROOM (64 * 1024 * 1024)
#define PACKET_MOST 2048

struct head { long long due; int length; };

/* Packets under way in one direction, one after the other; a gap at the end is left where one does not fit. */
struct way { int from, to; char *ring; size_t in, out, used; };

static void die(const char *what) { perror(what); exit(1); }

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* A namespace of its own with a TUN device in it that is this end of the link. */
static int enter(const char *own, const char *other) {
    char command[256];
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    if (unshare(CLONE_NEWNET)) die("unshare");
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (fd < 0) die("/dev/net/tun");
    strcpy(request.ifr_name, "link0");
    if (ioctl(fd, TUNSETIFF, &request)) die("TUNSETIFF");
    snprintf(command, sizeof command,
             "ip link set lo up && ip addr add %s peer %s dev link0 && ip link set link0 up txqueuelen 20000", own, other);
    if (system(command)) exit(1);
    return fd;
}

static void take(struct way *w, long long delay) {
    for (;;) {
        size_t need = sizeof(struct head) + PACKET_MOST;
        if (w->in + need > ROOM) { w->used += ROOM - w->in; w->in = 0; }
        static char lost[PACKET_MOST];
        int full = w->used + need > ROOM;
        char *at = w->ring + w->in;
        ssize_t n = read(w->from, full ? lost : at + sizeof(struct head), PACKET_MOST);
        if (n <= 0) return;
        if (full) continue;
        *(struct head *)at = (struct head){.due = now() + delay, .length = n};
        need = (sizeof(struct head) + n + 15) & ~(size_t)15;
        w->in += need;
        w->used += need;
    }
}

/* Passes on what is due, and says when the next will be. */
static long long give(struct way *w) {
    while (w->used > 0) {
        if (w->out + sizeof(struct head) + PACKET_MOST > ROOM) { w->used -= ROOM - w->out; w->out = 0; continue; }
        struct head *h = (struct head *)(w->ring + w->out);
        if (h->due > now()) return h->due;
        if (write(w->to, h + 1, h->length) < 0 && errno == EAGAIN) return now() + 100000;
        size_t size = (sizeof *h + h->length + 15) & ~(size_t)15;
        w->out += size;
        w->used -= size;
    }
    return -1;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    long long delay = atoll(argv[1]) * 1000000LL;
    int near = enter("10.77.0.1", "10.77.0.2");
    pid_t holder = fork();
    if (holder < 0) die("fork");
    if (holder == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) pause();
    }
    int far = enter("10.77.0.2", "10.77.0.1");
    struct way there = {.from = near, .to = far, .ring = malloc(ROOM)};
    struct way back = {.from = far, .to = near, .ring = malloc(ROOM)};
    if (!there.ring || !back.ring) die("malloc");
    printf("%d %d\n", holder, getpid());
    fflush(stdout);
    for (;;) {
        take(&there, delay);
        take(&back, delay);
        long long first = give(&there), second = give(&back);
        long long next = first < 0 || (second >= 0 && second < first) ? second : first;
        struct pollfd fds[2] = {{.fd = near, .events = POLLIN}, {.fd = far, .events = POLLIN}};
        struct timespec wait = {0};
        if (next >= 0) {
            long long left = next - now();
            if (left > 0) wait = (struct timespec){left / 1000000000LL, left % 1000000000LL};
        }
        if (ppoll(fds, 2, next < 0 ? NULL : &wait, NULL) < 0 && errno != EINTR) die("ppoll");
    }
}
