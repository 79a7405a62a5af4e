/* Makes the Nth call of this process that changes a file below a folder fail, or kills the process before it.
 *
 * Preloaded (LD_PRELOAD) into the torture's process and armed in a forked one. It stands between libc and everything above it, Python
 * and the native libraries that write files: `open` that creates, `write`, `fsync`, `rename`, `mkdir`, `unlink` and their kin.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE, WRITE, SYNC, RENAME, MKDIR, UNLINK, RMDIR, KINDS };
enum { KILL = -1, ENTRIES = 4096, NAME = 248 };

struct entry { int kind; int fired; char path[NAME]; };
struct control {
    long pid;      /* of the armed process; others are left alone */
    long target;   /* number of the call that fails, from 1; 0: none */
    long error;    /* errno, or KILL */
    long onwards;  /* 1: every later call fails, too */
    long spared;   /* bits of the kinds that do not fail `onwards` */
    long count, fired;
    char folder[NAME];
    struct entry calls[ENTRIES];
};
static struct control *control;

struct control *faults_share(void) {
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return control;
}

static int strikes(int kind, const char *path) {
    struct control *c = control;
    if (!c || c->pid != getpid() || !c->folder[0]) return 0;
    if (path[0] == '/' && strncmp(path, c->folder, strlen(c->folder))) return 0;
    long number = __atomic_add_fetch(&c->count, 1, __ATOMIC_SEQ_CST);
    int hit = c->target && (number == c->target || (c->onwards && number > c->target && !(c->spared >> kind & 1)));
    if (number <= ENTRIES) {
        struct entry *e = &c->calls[number - 1];
        e->kind = kind; e->fired = hit;
        strncpy(e->path, path, NAME - 1);
    }
    if (!hit) return 0;
    c->fired++;
    if (c->error == KILL) kill(getpid(), SIGKILL);
    errno = (int)c->error;
    return 1;
}

static const char *named(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, buffer, NAME - 1);
    buffer[n < 0 ? 0 : n] = 0;
    return buffer;
}

static int fd_strikes(int kind, int fd) {
    char buffer[NAME];
    if (!control || control->pid != getpid()) return 0;
    named(fd, buffer);
    return buffer[0] == '/' ? strikes(kind, buffer) : 0; /* no pipes, no sockets */
}

static int at_strikes(int kind, int directory, const char *path) {
    char buffer[2 * NAME];
    if (!control || control->pid != getpid()) return 0;
    if (path[0] == '/' || directory == AT_FDCWD) return strikes(kind, path);
    named(directory, buffer);
    strncat(buffer, "/", 2);
    strncat(buffer, path, NAME - 1);
    return strikes(kind, buffer);
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

static int creates(int flags) { return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (creates(flags) && strikes(CREATE, path)) return -1; \
        return real(path, flags, mode); }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        REAL(name); va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (creates(flags) && at_strikes(CREATE, directory, path)) return -1; \
        return real(directory, path, flags, mode); }
OPENAT(openat)
OPENAT(openat64)
#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); if (mode[0] != 'r' && strikes(CREATE, path)) return NULL; return real(path, mode); }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int fd, const void *data, size_t size) { REAL(write); return fd_strikes(WRITE, fd) ? -1 : real(fd, data, size); }
ssize_t writev(int fd, const struct iovec *parts, int n) { REAL(writev); return fd_strikes(WRITE, fd) ? -1 : real(fd, parts, n); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); return fd_strikes(WRITE, fd) ? -1 : real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); return fd_strikes(WRITE, fd) ? -1 : real(fd, data, size, at); }
size_t fwrite(const void *data, size_t size, size_t n, FILE *file) { REAL(fwrite); return fd_strikes(WRITE, fileno(file)) ? 0 : real(data, size, n, file); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); return fd_strikes(WRITE, fd) ? -1 : real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); return fd_strikes(WRITE, fd) ? -1 : real(fd, size); }
int fsync(int fd) { REAL(fsync); return fd_strikes(SYNC, fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fd_strikes(SYNC, fd) ? -1 : real(fd); }
int rename(const char *from, const char *to) { REAL(rename); return strikes(RENAME, to) ? -1 : real(from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); return at_strikes(RENAME, b, to) ? -1 : real(a, from, b, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { REAL(renameat2); return at_strikes(RENAME, b, to) ? -1 : real(a, from, b, to, flags); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return strikes(MKDIR, path) ? -1 : real(path, mode); }
int mkdirat(int directory, const char *path, mode_t mode) { REAL(mkdirat); return at_strikes(MKDIR, directory, path) ? -1 : real(directory, path, mode); }
int unlink(const char *path) { REAL(unlink); return strikes(UNLINK, path) ? -1 : real(path); }
int unlinkat(int directory, const char *path, int flags) {
    REAL(unlinkat);
    return at_strikes(flags & AT_REMOVEDIR ? RMDIR : UNLINK, directory, path) ? -1 : real(directory, path, flags);
}
int rmdir(const char *path) { REAL(rmdir); return strikes(RMDIR, path) ? -1 : real(path); }
