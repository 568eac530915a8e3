/*
 * Lets calls on files fail that a disk can fail, in any program that is started with LD_PRELOAD of this and HOLDFAST_DISK_FAULTS, a file that it maps:
 * the rules in it, and how often each was met. Whoever writes the file decides while the program runs. See disk-faults.ts, which has the same layout.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, RENAME = 16 };
/* Below 1000: the errno that the call fails with. */
enum { KILL = 1000, KILL_AFTER = 1001, SHORT = 1002, TORN_KILL = 1003, FILLS = 1004 };

struct rule {
  uint32_t armed;
  uint32_t calls;
  uint32_t how;
  /* The first that is struck, from 1, and how many in a row. */
  uint32_t at;
  uint32_t times;
  uint32_t seen;
  uint32_t struck;
  uint32_t unused;
  /* Files below this folder, whose path holds this text. */
  char below[384];
  char holds[96];
};

static const int RULES = 2;
static struct rule *rules;

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("HOLDFAST_DISK_FAULTS");
  if (!name) return;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) return;
  void *map = mmap(NULL, sizeof(struct rule) * RULES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  if (map != MAP_FAILED) rules = map;
}

#define REAL(type, name, ...)                                                                                              \
  static type (*real)(__VA_ARGS__);                                                                                        \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void die(void) { syscall(SYS_kill, syscall(SYS_getpid), SIGKILL); }

/* What to do to this call; 0: nothing. */
static uint32_t met_path(uint32_t call, const char *path) {
  for (int n = 0; n < RULES; n++) {
    struct rule *rule = &rules[n];
    if (!rule->armed || !(rule->calls & call)) continue;
    if (strncmp(path, rule->below, strlen(rule->below)) != 0 || !strstr(path, rule->holds)) continue;
    uint32_t seen = __atomic_add_fetch(&rule->seen, 1, __ATOMIC_SEQ_CST);
    if (seen < rule->at || seen - rule->at >= rule->times) continue;
    __atomic_add_fetch(&rule->struck, 1, __ATOMIC_SEQ_CST);
    if (rule->how == KILL) die();
    if (rule->how == FILLS && seen > rule->at) return ENOSPC;
    return rule->how;
  }
  return 0;
}

static uint32_t met(uint32_t call, int fd) {
  if (!rules) return 0;
  int any = 0;
  for (int n = 0; n < RULES; n++) any |= rules[n].armed && (rules[n].calls & call);
  if (!any) return 0;
  int before = errno;
  char link[64], path[1024];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length < 0) return 0;
  path[length] = 0;
  return met_path(call, path);
}

static int fails(uint32_t how) { return how > 0 && how < KILL; }

#define ALL_OR_FAIL(call, fd)                                                                                              \
  uint32_t how = met(call, fd);                                                                                            \
  if (fails(how)) return errno = (int)how, -1

/* Half of it, at least a byte, where it is to be torn. */
static size_t part(uint32_t how, size_t count) {
  return (how == SHORT || how == TORN_KILL || how == FILLS) && count > 1 ? count / 2 : count;
}

static ssize_t done(uint32_t how, ssize_t result) {
  if (how == KILL_AFTER || how == TORN_KILL) die();
  return result;
}

ssize_t read(int fd, void *to, size_t count) {
  REAL(ssize_t, "read", int, void *, size_t);
  ALL_OR_FAIL(READ, fd);
  return done(how, real(fd, to, part(how, count)));
}

ssize_t pread64(int fd, void *to, size_t count, off64_t at) {
  REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
  ALL_OR_FAIL(READ, fd);
  return done(how, real(fd, to, part(how, count), at));
}

ssize_t write(int fd, const void *from, size_t count) {
  REAL(ssize_t, "write", int, const void *, size_t);
  ALL_OR_FAIL(WRITE, fd);
  return done(how, real(fd, from, part(how, count)));
}

ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
  ALL_OR_FAIL(WRITE, fd);
  return done(how, real(fd, from, part(how, count), at));
}

/* Of several buffers a part is half of the first. */
static int first_half(uint32_t how, const struct iovec **parts, int count, struct iovec *half) {
  if (part(how, 2) == 2 || count == 0) return count;
  *half = (struct iovec){(*parts)[0].iov_base, part(how, (*parts)[0].iov_len)};
  *parts = half;
  return 1;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  ALL_OR_FAIL(WRITE, fd);
  struct iovec half;
  count = first_half(how, &parts, count, &half);
  return done(how, real(fd, parts, count));
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
  ALL_OR_FAIL(WRITE, fd);
  struct iovec half;
  count = first_half(how, &parts, count, &half);
  return done(how, real(fd, parts, count, at));
}

ssize_t readv(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, "readv", int, const struct iovec *, int);
  ALL_OR_FAIL(READ, fd);
  struct iovec half;
  count = first_half(how, &parts, count, &half);
  return done(how, real(fd, parts, count));
}

ssize_t preadv(int fd, const struct iovec *parts, int count, off_t at) {
  REAL(ssize_t, "preadv", int, const struct iovec *, int, off_t);
  ALL_OR_FAIL(READ, fd);
  struct iovec half;
  count = first_half(how, &parts, count, &half);
  return done(how, real(fd, parts, count, at));
}

int fsync(int fd) {
  REAL(int, "fsync", int);
  ALL_OR_FAIL(SYNC, fd);
  return (int)done(how, real(fd));
}

int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  ALL_OR_FAIL(SYNC, fd);
  return (int)done(how, real(fd));
}

int syncfs(int fd) {
  REAL(int, "syncfs", int);
  ALL_OR_FAIL(SYNC, fd);
  return (int)done(how, real(fd));
}

int sync_file_range(int fd, off64_t at, off64_t count, unsigned int flags) {
  REAL(int, "sync_file_range", int, off64_t, off64_t, unsigned int);
  /* without flags it is asked whether there is such a call */
  uint32_t how = flags ? met(SYNC, fd) : 0;
  if (fails(how)) return errno = (int)how, -1;
  return (int)done(how, real(fd, at, count, flags));
}

#define RENAMES(to)                                                                                                        \
  uint32_t how = rules ? met_path(RENAME, to) : 0;                                                                         \
  if (fails(how)) return errno = (int)how, -1

int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  RENAMES(to);
  return (int)done(how, real(from, to));
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
  REAL(int, "renameat2", int, const char *, int, const char *, unsigned int);
  RENAMES(to);
  return (int)done(how, real(from_folder, from, to_folder, to, flags));
}

int link(const char *from, const char *to) {
  REAL(int, "link", const char *, const char *);
  RENAMES(to);
  return (int)done(how, real(from, to));
}

/* Opened first: only then it is known where it lies. */
static int opened(int fd) {
  if (fd < 0) return fd;
  uint32_t how = met(OPEN, fd);
  if (!fails(how)) return (int)done(how, fd);
  close(fd);
  errno = (int)how;
  return -1;
}

#define MODE(flags)                                                                                                        \
  mode_t mode = 0;                                                                                                         \
  if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                                   \
    va_list more;                                                                                                          \
    va_start(more, flags);                                                                                                 \
    mode = va_arg(more, mode_t);                                                                                           \
    va_end(more);                                                                                                          \
  }

int open(const char *path, int flags, ...) {
  REAL(int, "open", const char *, int, ...);
  MODE(flags)
  return opened(real(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
  REAL(int, "open64", const char *, int, ...);
  MODE(flags)
  return opened(real(path, flags, mode));
}

int openat(int folder, const char *path, int flags, ...) {
  REAL(int, "openat", int, const char *, int, ...);
  MODE(flags)
  return opened(real(folder, path, flags, mode));
}

int openat64(int folder, const char *path, int flags, ...) {
  REAL(int, "openat64", int, const char *, int, ...);
  MODE(flags)
  return opened(real(folder, path, flags, mode));
}
