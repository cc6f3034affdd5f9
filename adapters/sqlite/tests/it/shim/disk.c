/* A disk that loses what was not synced, preloaded into a process (LD_PRELOAD).
 *
 * For all files below PURLIN_DISK_FOLDER it keeps, below PURLIN_DISK_IMAGE, what a power failure would leave:
 *   - what was written to a file or cut from it reaches the image when the file is synced, and not before;
 *   - that a file was made, renamed or removed reaches it when its folder is synced, and not before;
 *   - what a failed sync was to make durable never reaches it, though the process goes on seeing it (as on Linux).
 * Shared memory (-shm) is no part of it. Nothing is really synced: a test need not wait for the disk.
 *
 * PURLIN_DISK_END=write:N | sync:N   the power fails right before the N-th write or sync
 * PURLIN_DISK_FAIL=N[:M]             the N-th sync fails (EIO), and after it each M-th
 * PURLIN_DISK_SEED=S                 an uneven S lets some of what was not synced reach the image when the power
 *                                    fails, torn at any sector
 * PURLIN_DISK_READ_ONLY=path         while this file is there, the disk is read-only (EROFS)
 * PURLIN_DISK_DOUBT=path             while this file is there, no thread can sync what it wrote to a log of SQLite's
 *                                    (-wal): EIO, and each time the file gets a byte
 * PURLIN_DISK_KEEPS=1                what such a sync was for is durable all the same, and is found: the log's index
 *                                    (-shm) is lost, so that SQLite reads the log anew
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES 4096
#define SECTOR 512

struct change { off_t at; size_t len; char *bytes; struct change *next; }; /* no bytes: cut or grown to `at` */
struct file { int id, is_folder; char *index; /* a log's */ struct change *first, **last; };
struct name { char *path; struct file *file; int now, durable; };

static char *folder, *image, *read_only, *doubt;
static int keeps;
static struct name names[FILES];
static int name_count, file_count;
static struct file *open_files[FILES];
static long writes, syncs, end_write = -1, end_sync = -1, fail_sync = -1, fail_each;
static unsigned long dice;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int inside;
static __thread struct file *wrote; /* the log that this thread wrote to and did not sync */

#define REAL(result, name, ...) \
  static result (*real)(__VA_ARGS__); \
  if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int real_open(const char *path, int flags, mode_t mode) { REAL(int, "open64", const char *, int, ...); return real(path, flags, mode); }
static ssize_t real_pwrite(int fd, const void *b, size_t n, off_t at) { REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t); return real(fd, b, n, at); }
static ssize_t real_write(int fd, const void *b, size_t n) { REAL(ssize_t, "write", int, const void *, size_t); return real(fd, b, n); }
static int real_ftruncate(int fd, off_t len) { REAL(int, "ftruncate64", int, off_t); return real(fd, len); }
static int real_fsync(int fd) { REAL(int, "fsync", int); return real(fd); }
static int real_close(int fd) { REAL(int, "close", int); return real(fd); }
static int real_unlink(const char *path) { REAL(int, "unlink", const char *); return real(path); }
static int real_rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *); return real(a, b); }
static int real_mkdir(const char *path, mode_t mode) { REAL(int, "mkdir", const char *, mode_t); return real(path, mode); }
static int real_rmdir(const char *path) { REAL(int, "rmdir", const char *); return real(path); }

static void die(const char *why) { dprintf(2, "disk.c: %s\n", why); abort(); }

static char *join(const char *a, const char *b) {
  char *joined;
  if (asprintf(&joined, "%s%s", a, b) < 0) die("no memory");
  return joined;
}

__attribute__((constructor)) static void begin(void) {
  folder = getenv("PURLIN_DISK_FOLDER");
  image = getenv("PURLIN_DISK_IMAGE");
  read_only = getenv("PURLIN_DISK_READ_ONLY");
  doubt = getenv("PURLIN_DISK_DOUBT");
  keeps = getenv("PURLIN_DISK_KEEPS") != NULL;
  const char *end = getenv("PURLIN_DISK_END"), *fail = getenv("PURLIN_DISK_FAIL"), *seed = getenv("PURLIN_DISK_SEED");
  if (end) { sscanf(end, "write:%ld", &end_write); sscanf(end, "sync:%ld", &end_sync); }
  if (fail) sscanf(fail, "%ld:%ld", &fail_sync, &fail_each);
  if (seed) dice = strtoul(seed, NULL, 10);
  if (folder && !image) die("no image");
  if (folder) setenv("PURLIN_DISK", "is there", 1);
}

/* The part of a path that is below the folder; none of others, nor of shared memory. */
static const char *below(const char *path) {
  if (!folder || !path || inside) return NULL;
  size_t len = strlen(folder), all = strlen(path);
  if (strncmp(path, folder, len) || (path[len] && path[len] != '/')) return NULL;
  if (all > 4 && !strcmp(path + all - 4, "-shm")) return NULL;
  return path + len;
}

static int is_read_only(void) { return read_only && !access(read_only, F_OK); }

static unsigned long roll(unsigned long sides) {
  dice = dice * 6364136223846793005UL + 1442695040888963407UL;
  return (dice >> 33) % sides;
}

static void object(char *into, struct file *file) { snprintf(into, PATH_MAX, "%s/objects/%d", image, file->id); }

static struct file *make_file(int is_folder) {
  struct file *file = calloc(1, sizeof *file);
  if (!file) die("no memory");
  file->id = file_count++;
  file->is_folder = is_folder;
  file->last = &file->first;
  if (!is_folder) {
    char path[PATH_MAX];
    object(path, file);
    int fd = real_open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (fd < 0) die("the image cannot be written");
    real_close(fd);
  }
  return file;
}

static struct name *find(const char *path) {
  for (int n = 0; n < name_count; n++)
    if (names[n].now && !strcmp(names[n].path, path)) return &names[n];
  return NULL;
}

static struct name *add(const char *path, struct file *file, int durable) {
  if (name_count == FILES) die("too many names");
  names[name_count] = (struct name){ strdup(path), file, 1, durable };
  return &names[name_count++];
}

static void link_name(struct name *name) {
  char from[PATH_MAX], *to = join(image, "/tree");
  char *path = join(to, name->path);
  if (name->file->is_folder) real_mkdir(path, 0700);
  else { object(from, name->file); real_unlink(path); if (link(from, path)) die("the image cannot be linked"); }
  name->durable = 1;
  free(to); free(path);
}

/* What is there already is durable. */
static struct name *known(const char *path) {
  const char *rest = below(path);
  if (!rest) return NULL;
  struct name *name = find(rest);
  struct stat stat_of;
  if (name || stat(path, &stat_of)) return name;
  name = add(rest, make_file(S_ISDIR(stat_of.st_mode)), 0);
  if (!name->file->is_folder) {
    char to[PATH_MAX], block[65536];
    object(to, name->file);
    int in = real_open(path, O_RDONLY, 0), out = real_open(to, O_WRONLY, 0);
    for (ssize_t n; (n = read(in, block, sizeof block)) > 0;) if (real_write(out, block, n) != n) die("no copy");
    real_close(in); real_close(out);
  }
  link_name(name);
  return name;
}

static void forget(struct file *file) {
  while (file->first) {
    struct change *change = file->first;
    file->first = change->next;
    free(change->bytes); free(change);
  }
  file->last = &file->first;
}

/* Brings a file's changes into the image; some of them, when the power fails. */
static void settle(struct file *file, int some) {
  char path[PATH_MAX];
  object(path, file);
  int fd = file->first ? real_open(path, O_WRONLY, 0) : -1;
  for (struct change *change = file->first; change; change = change->next) {
    size_t from = 0, to = change->len;
    if (some) {
      if (roll(2)) continue;
      if (change->len > SECTOR && roll(2)) { to = roll(change->len / SECTOR + 1) * SECTOR; if (roll(2)) { from = to; to = change->len; } }
    }
    if (!change->bytes) { if (real_ftruncate(fd, change->at)) die("the image cannot be cut"); }
    else if (to > from && real_pwrite(fd, change->bytes + from, to - from, change->at + from) < 0) die("the image cannot be written");
  }
  if (fd >= 0) real_close(fd);
  forget(file);
}

static void settle_folder(const char *path) {
  size_t len = strlen(path);
  for (int n = 0; n < name_count; n++) {
    struct name *name = &names[n];
    if (strncmp(name->path, path, len) || name->path[len] != '/' || strchr(name->path + len + 1, '/')) continue;
    if (!name->now && name->durable) {
      char *tree = join(image, "/tree"), *gone = join(tree, name->path);
      /* Another file may have the name by now. */
      if (!find(name->path) || !find(name->path)->durable) { if (name->file->is_folder) real_rmdir(gone); else real_unlink(gone); }
      name->durable = 0;
      free(tree); free(gone);
    }
  }
  for (int n = 0; n < name_count; n++) {
    struct name *name = &names[n];
    if (strncmp(name->path, path, len) || name->path[len] != '/' || strchr(name->path + len + 1, '/')) continue;
    if (name->now && !name->durable) link_name(name);
  }
}

static void power_fails(void) {
  if (dice % 2) {
    for (int n = 0; n < name_count; n++) if (names[n].now && !names[n].file->is_folder) settle(names[n].file, 1);
  }
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static void change(struct file *file, off_t at, const void *bytes, size_t len) {
  struct change *change = calloc(1, sizeof *change);
  if (!change || (bytes && !(change->bytes = malloc(len ? len : 1)))) die("no memory");
  change->at = at;
  change->len = len;
  if (bytes) memcpy(change->bytes, bytes, len);
  *file->last = change;
  file->last = &change->next;
}

static struct file *of_fd(int fd) { return fd >= 0 && fd < FILES ? open_files[fd] : NULL; }

static void enter(void) { pthread_mutex_lock(&lock); inside = 1; }
static void leave(void) { inside = 0; pthread_mutex_unlock(&lock); }

static int opened(const char *path, int flags, mode_t mode) {
  if (!below(path)) return real_open(path, flags, mode);
  int wants_to_write = (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) != O_RDONLY;
  if (wants_to_write && is_read_only()) {
    struct stat stat_of;
    /* To open what is there with O_CREAT and only to read is no change. */
    if ((flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY || stat(path, &stat_of)) { errno = EROFS; return -1; }
  }
  pthread_mutex_lock(&lock);
  struct name *name = known(path);
  inside = 1;
  int fd = real_open(path, flags, mode);
  int error = errno;
  if (fd >= FILES) die("too many open files");
  if (fd >= 0) {
    inside = 0;
    if (!name) name = add(below(path), make_file(0), 0);
    inside = 1;
    if (flags & O_TRUNC) change(name->file, 0, NULL, 0);
    size_t len = strlen(path);
    if (!name->file->index && len > 4 && !strcmp(path + len - 4, "-wal")) {
      if (asprintf(&name->file->index, "%.*s-shm", (int)len - 4, path) < 0) die("no memory");
    }
    open_files[fd] = name->file;
  }
  leave();
  errno = error;
  return fd;
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); } \
    return opened(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

int close(int fd) {
  if (!of_fd(fd)) return real_close(fd);
  enter(); open_files[fd] = NULL; leave();
  return real_close(fd);
}

static int count_write(struct file *file, off_t at, const void *bytes, size_t len) {
  if (is_read_only()) { errno = EROFS; return -1; }
  int ends = writes++ == end_write;
  if (ends && dice % 2) change(file, at, bytes, len);
  if (ends) power_fails();
  change(file, at, bytes, len);
  return 0;
}

static ssize_t written(int fd, const void *bytes, size_t len, off_t at) {
  enter();
  ssize_t done = count_write(open_files[fd], at, bytes, len) ? -1 : real_pwrite(fd, bytes, len, at);
  if (open_files[fd]->index) wrote = open_files[fd];
  leave();
  return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return of_fd(fd) ? written(fd, bytes, len, at) : real_pwrite(fd, bytes, len, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t at) { return of_fd(fd) ? written(fd, bytes, len, at) : real_pwrite(fd, bytes, len, at); }

ssize_t write(int fd, const void *bytes, size_t len) {
  if (!of_fd(fd)) return real_write(fd, bytes, len);
  enter();
  off_t at = lseek(fd, 0, SEEK_CUR);
  ssize_t done = count_write(open_files[fd], at, bytes, len) ? -1 : real_write(fd, bytes, len);
  leave();
  return done;
}

static int truncated(int fd, off_t len) {
  if (!of_fd(fd)) return real_ftruncate(fd, len);
  enter();
  int done = count_write(open_files[fd], len, NULL, 0) ? -1 : real_ftruncate(fd, len);
  leave();
  return done;
}
int ftruncate(int fd, off_t len) { return truncated(fd, len); }
int ftruncate64(int fd, off_t len) { return truncated(fd, len); }

/* Whether a sync leaves in doubt what it was for. */
static int is_doubted(struct file *file) {
  int own = wrote == file;
  if (own) wrote = NULL;
  if (!own || !doubt || access(doubt, F_OK)) return 0;
  if (keeps) {
    char header[96] = { 0 };
    settle(file, 0);
    /* Never closed: that would give up the locks that SQLite has on it. */
    int index = real_open(file->index, O_RDWR, 0);
    if (index < 0 || real_pwrite(index, header, sizeof header, 0) < 0) die("no index of the log");
  } else forget(file);
  int count = real_open(doubt, O_WRONLY | O_APPEND, 0);
  if (count >= 0) { if (real_write(count, "!", 1) < 0) die("no count of doubts"); real_close(count); }
  return 1;
}

static int synced(int fd) {
  if (!of_fd(fd)) return real_fsync(fd);
  enter();
  struct file *file = open_files[fd];
  int done = 0;
  if (syncs == end_sync) power_fails();
  if (is_read_only()) { errno = EROFS; done = -1; }
  else if (is_doubted(file)) { errno = EIO; done = -1; }
  else if (syncs == fail_sync || (fail_each > 0 && syncs > fail_sync && (syncs - fail_sync) % fail_each == 0)) { forget(file); errno = EIO; done = -1; }
  else if (file->is_folder) { for (int n = 0; n < name_count; n++) if (names[n].file == file && names[n].now) settle_folder(names[n].path); }
  else settle(file, 0);
  syncs++;
  leave();
  return done;
}
int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

int unlink(const char *path) {
  if (!below(path)) return real_unlink(path);
  if (is_read_only()) { errno = EROFS; return -1; }
  pthread_mutex_lock(&lock);
  struct name *name = known(path);
  int done = real_unlink(path);
  if (!done && name) name->now = 0;
  pthread_mutex_unlock(&lock);
  return done;
}

int rename(const char *from, const char *to) {
  if (!below(from) || !below(to)) return real_rename(from, to);
  if (is_read_only()) { errno = EROFS; return -1; }
  pthread_mutex_lock(&lock);
  struct name *name = known(from), *over = known(to);
  int done = real_rename(from, to);
  if (!done && name) {
    if (over) over->now = 0;
    name->now = 0;
    add(below(to), name->file, 0);
  }
  pthread_mutex_unlock(&lock);
  return done;
}

int mkdir(const char *path, mode_t mode) {
  if (!below(path)) return real_mkdir(path, mode);
  if (is_read_only()) { errno = EROFS; return -1; }
  pthread_mutex_lock(&lock);
  int done = real_mkdir(path, mode);
  if (!done) add(below(path), make_file(1), 0);
  pthread_mutex_unlock(&lock);
  return done;
}

__attribute__((destructor)) static void end(void) {
  if (folder) dprintf(2, "\ndisk: %ld writes, %ld syncs\n", writes, syncs);
}
