/*
 * A relay has one heap, and gives the memory of a crowd back to the system once the crowd has gone.
 *
 * glibc gives each thread a heap of its own. What one thread takes and another gives back, as with a connection that one
 * accepts and another serves, is then of use to the first alone; with one heap a connection costs a tenth of a KiB less, and
 * the small pieces that each thread keeps for itself spare the lock. No safe Rust can ask for it.
 *
 * glibc returns only the free top of its heaps by itself, and one small allocation that stays pins all below it: after
 * thousands of connections everything they used is free and still resident. malloc_trim returns free pages wherever they
 * lie, but no safe Rust can call it. So a thread of its own looks every two seconds how much is in use. It acts only after
 * that has fallen to half of what it was, and only if what could be returned is worth the walk through the heaps; while a
 * relay grows, idles or works evenly it only wakes and reads the allocator's statistics, for which mallinfo takes the lock
 * of the heap.
 *
 * Only a command line with the word `relay` in it gets this. On other C libraries the file is empty.
 */
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define LOOK_EVERY_SECONDS 2
#define WORTH_IT_BYTES (4u << 20)

#if __GLIBC_PREREQ(2, 33)
static struct mallinfo2 heaps(void) { return mallinfo2(); }
#else
static struct mallinfo heaps(void) { return mallinfo(); }
#endif

static void *give_back(void *unused)
{
    size_t most_used = 0;

    for (;;) {
        sleep(LOOK_EVERY_SECONDS);
        size_t used = heaps().uordblks, free_bytes = heaps().fordblks;
        if (used > most_used)
            most_used = used;
        if (used <= most_used / 2 && free_bytes >= WORTH_IT_BYTES) {
            malloc_trim(0);
            most_used = used;
        }
    }
    return unused;
}

/* glibc hands the arguments to constructors too. */
__attribute__((constructor)) static void start_giving_back(int argc, char **argv)
{
    pthread_t thread;
    sigset_t all, before;
    int is_relay = 0;

    /* Options may stand before the command. A file named relay costs another command an idle thread, no more. */
    for (int at = 1; at < argc && !is_relay; at++)
        is_relay = strcmp(argv[at], "relay") == 0;
    if (!is_relay)
        return;
    mallopt(M_ARENA_MAX, 1);
    /* Signals are for the threads that know what to do with them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, give_back, NULL) == 0)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
#endif
