/* SPDX-License-Identifier: MIT */
/*
 * Stands between a process and the system, for benchmarks.torture: loaded with LD_PRELOAD, it counts the calls that
 * change something below one directory and does something evil at one of them.
 *
 * Whoever forks tells the child what to do by `torture_arm`; a process that is not armed is left alone.  Reads
 * are never touched.  A file that is open is known by the path it was opened with, which the saves under test
 * do not change while it is open.  The calls go to the kernel directly, so nothing has to be looked up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum action {
    COUNT,     /* nothing */
    KILL,      /* die before the call */
    TORN,      /* die after it; of a write, only the first half was done */
    FAIL,      /* do not do it, fail with `code` */
    FAIL_FROM, /* fail it and every later write or creation: a full disk that stays full */
    SHORT,     /* write only the first half, and say so */
    RECORD     /* append each call to a file */
};

#define MAX_FILES 1024

static char root[PATH_MAX];       /* it and what lies below it are watched; "": not armed */
static char start[64];            /* counting begins with a mkdir whose path holds this; "": at once */
static int action, code, trace = -1;
static long nth, counted;
static char names[MAX_FILES][PATH_MAX];   /* of open files below root; "": another file */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Begin to watch.  at: the number of the call, from 1.  trace_path: for RECORD. */
void torture_arm(const char *directory, const char *first, int what, long at, int error, const char *trace_path)
{
    action = what, nth = at, code = error, counted = 0;
    snprintf(start, sizeof start, "%s", first);
    if (what == RECORD)
        trace = (int)syscall(SYS_openat, AT_FDCWD, trace_path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    snprintf(root, sizeof root, "%s", directory);
}

/* End watching.  Returns the calls that were counted. */
long torture_disarm(void)
{
    root[0] = 0;
    return counted;
}

/* ---- which calls, and what becomes of them ---------------------------------------------------------- */

/* The path that a call means, if it lies below root; else NULL. */
static const char *watched(int directory, const char *path, char *buffer)
{
    if (!root[0]) return NULL;
    if (path[0] == '/')
        snprintf(buffer, PATH_MAX, "%s", path);
    else if (directory == AT_FDCWD) {
        if (syscall(SYS_getcwd, buffer, PATH_MAX) < 0) return NULL;
        const size_t length = strlen(buffer);
        snprintf(buffer + length, PATH_MAX - length, "/%s", path);
    } else if (directory >= 0 && directory < MAX_FILES && names[directory][0]) {
        if (snprintf(buffer, PATH_MAX, "%s/%s", names[directory], path) >= PATH_MAX) return NULL;
    } else
        return NULL;
    const size_t length = strlen(root);
    const int is_below = !strncmp(buffer, root, length) && (buffer[length] == '/' || !buffer[length]);
    return is_below ? buffer : NULL;
}

static const char *name_of(int fd)
{
    return root[0] && fd >= 0 && fd < MAX_FILES && names[fd][0] ? names[fd] : NULL;
}

static void record(const char *call, const char *path, const char *other, const void *data, size_t size)
{
    char line[3 * PATH_MAX];
    const int length = snprintf(line, sizeof line, "%s\t%s\t%s\t%zu\n", call, path, other, size);
    if (syscall(SYS_write, trace, line, (size_t)length) < 0 || (size && syscall(SYS_write, trace, data, size) < 0))
        syscall(SYS_kill, getpid(), SIGKILL);
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) syscall(SYS_pause);
}

/* Count a call below root.  Returns what the caller has to do: COUNT (go on), TORN, FAIL or SHORT. */
static int step(const char *call, const char *path, const char *other, const void *data, size_t size)
{
    pthread_mutex_lock(&lock);
    if (start[0] && !strcmp(call, "mkdir") && strstr(path, start)) start[0] = 0;
    int what = COUNT;
    if (!start[0]) {
        counted++;
        if (action == RECORD) record(call, path, other, data, size);
        else if (counted == nth) what = action;
        else if (counted > nth && action == FAIL_FROM && (size || !strcmp(call, "mkdir") || !strcmp(call, "open")))
            what = FAIL;
    }
    pthread_mutex_unlock(&lock);
    if (what == KILL) die();
    return what == FAIL_FROM ? FAIL : what;
}

/* Count a call, then do it, unless it is to fail. */
#define DO(call, path, other, real)                                   \
    const int what = step(call, path, other, NULL, 0);                \
    if (what == FAIL) return errno = code, -1;                        \
    const int result = (int)(real);                                   \
    if (what == TORN) die();                                          \
    return result

/* ---- files ------------------------------------------------------------------------------------------ */

static int open_at(int directory, const char *path, int flags, mode_t mode)
{
    char buffer[PATH_MAX];
    const char *name = watched(directory, path, buffer);
    int what = COUNT;
    if (name && flags & (O_CREAT | O_WRONLY | O_RDWR)) what = step("open", name, "", NULL, 0);
    if (what == FAIL) return errno = code, -1;
    const int fd = (int)syscall(SYS_openat, directory, path, flags, mode);
    if (what == TORN) die();
    if (name && fd >= 0 && fd < MAX_FILES) strcpy(names[fd], name);
    return fd;
}

#define MODE_OF(flags, mode)                                          \
    mode_t mode = 0;                                                  \
    if (flags & O_CREAT) {                                            \
        va_list list;                                                 \
        va_start(list, flags);                                        \
        mode = (mode_t)va_arg(list, int);                             \
        va_end(list);                                                 \
    }

int open(const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_at(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...)
{
    MODE_OF(flags, mode)
    return open_at(directory, path, flags, mode);
}

int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }

/* The kernel closes a file even where it says that something went wrong. */
int close(int fd)
{
    const char *name = name_of(fd);
    const int what = name ? step("close", name, "", NULL, 0) : COUNT;
    if (fd >= 0 && fd < MAX_FILES) names[fd][0] = 0;
    const int result = (int)syscall(SYS_close, fd);
    if (what == TORN) die();
    return what == FAIL ? (errno = code, -1) : result;
}

static ssize_t write_to(int fd, const void *data, size_t size, off_t at)
{
    const char *name = name_of(fd);
    const int what = name ? step("write", name, "", data, size) : COUNT;
    if (what == FAIL) return errno = code, -1;
    if (what == TORN || (what == SHORT && size > 1)) size /= 2;
    const ssize_t done = at < 0 ? syscall(SYS_write, fd, data, size) : syscall(SYS_pwrite64, fd, data, size, at);
    if (what == TORN) die();
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return write_to(fd, data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return write_to(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return write_to(fd, data, size, at); }

static int sync_file(int fd, long number)
{
    const char *name = name_of(fd);
    if (!name) return (int)syscall(number, fd);
    DO("fsync", name, "", syscall(number, fd));
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

static int truncate_file(int fd, off_t size)
{
    const char *name = name_of(fd);
    if (!name) return (int)syscall(SYS_ftruncate, fd, size);
    DO("ftruncate", name, "", syscall(SYS_ftruncate, fd, size));
}

int ftruncate(int fd, off_t size) { return truncate_file(fd, size); }
int ftruncate64(int fd, off_t size) { return truncate_file(fd, size); }

/* ---- names ------------------------------------------------------------------------------------------ */

int mkdirat(int directory, const char *path, mode_t mode)
{
    char buffer[PATH_MAX];
    const char *name = watched(directory, path, buffer);
    if (!name) return (int)syscall(SYS_mkdirat, directory, path, mode);
    DO("mkdir", name, "", syscall(SYS_mkdirat, directory, path, mode));
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *name = watched(from_directory, from, from_buffer), *other = watched(to_directory, to, to_buffer);
    if (!name || !other) return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, 0);
    DO("rename", name, other, syscall(SYS_renameat2, from_directory, from, to_directory, to, 0));
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int directory, const char *path, int flags)
{
    char buffer[PATH_MAX];
    const char *name = watched(directory, path, buffer);
    if (!name) return (int)syscall(SYS_unlinkat, directory, path, flags);
    DO("unlink", name, "", syscall(SYS_unlinkat, directory, path, flags));
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    char buffer[PATH_MAX];
    const char *name = watched(to_directory, to, buffer);
    if (!name) return (int)syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
    DO("link", name, "", syscall(SYS_linkat, from_directory, from, to_directory, to, flags));
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
