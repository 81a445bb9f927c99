/*
 * A standard stream that was closed when the program was started shall fail when it is used.
 *
 * Rust's runtime opens /dev/null, for reading and writing, in the place of a closed descriptor 0, 1 or 2 before main:
 * bytes copied to a closed standard output would vanish with exit code 0, and a closed standard input would look like
 * an empty one. Nothing in safe Rust runs early enough to notice. So this does what glibc does for set-user-ID programs
 * (csu/check_fds.c): it puts /dev/null there opened the wrong way round, and the first use says "bad descriptor".
 * Standard error is left to Rust: nobody could be told.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void occupy(int fd, int the_wrong_way)
{
    if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
        int opened = open("/dev/null", the_wrong_way);
        if (opened != -1 && opened != fd) {
            dup2(opened, fd);
            close(opened);
        }
    }
}

__attribute__((constructor)) static void occupy_closed_streams(void)
{
    occupy(0, O_WRONLY);
    occupy(1, O_RDONLY);
}
