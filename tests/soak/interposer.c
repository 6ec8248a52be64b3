/* Shifts the wall clock of one process and slows its writes to files, while it runs: LD_PRELOAD.
 *
 * HEADGATE_SOAK_CONTROL names a file of two 64-bit numbers that the test writes: nanoseconds by which CLOCK_REALTIME is
 * shifted, and nanoseconds that each write, fsync and fdatasync of a regular file takes longer. CLOCK_MONOTONIC is not
 * touched: a step of the wall clock does not move it on a real machine either.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL

static volatile int64_t *control;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("HEADGATE_SOAK_CONTROL");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *found = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED)
        control = found;
    close(file);
}

static int64_t shift(void) { return control ? control[0] : 0; }

#define REAL(name) ((__typeof__(&name))real(&real_##name, #name))
static void *real(void **cache, const char *name)
{
    if (!*cache)
        *cache = dlsym(RTLD_NEXT, name);
    return *cache;
}

static void *real_clock_gettime, *real_write, *real_pwrite64, *real_writev, *real_fsync, *real_fdatasync;

int clock_gettime(clockid_t clock, struct timespec *found)
{
    int status = REAL(clock_gettime)(clock, found);
    int64_t by = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? shift() : 0;
    if (status == 0 && by) {
        int64_t now = found->tv_sec * NS + found->tv_nsec + by;
        found->tv_sec = now / NS;
        found->tv_nsec = now % NS;
    }
    return status;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *found)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found)
        *found = now.tv_sec;
    return now.tv_sec;
}

static void wait_for_disk(int file)
{
    struct stat what;
    int64_t by = control ? control[1] : 0;
    if (by <= 0 || fstat(file, &what) != 0 || !S_ISREG(what.st_mode))
        return;
    struct timespec pause = {by / NS, by % NS};
    nanosleep(&pause, NULL);
}

ssize_t write(int file, const void *bytes, size_t count)
{
    wait_for_disk(file);
    return REAL(write)(file, bytes, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at)
{
    wait_for_disk(file);
    return REAL(pwrite64)(file, bytes, count, at);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) { return pwrite64(file, bytes, count, at); }

ssize_t writev(int file, const struct iovec *parts, int count)
{
    wait_for_disk(file);
    return REAL(writev)(file, parts, count);
}

int fsync(int file)
{
    wait_for_disk(file);
    return REAL(fsync)(file);
}

int fdatasync(int file)
{
    wait_for_disk(file);
    return REAL(fdatasync)(file);
}
