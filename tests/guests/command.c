/* A WASI command: what its first argument says. */
typedef unsigned int u32;
typedef unsigned long long u64;
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))
WASI(args_sizes_get) u32 args_sizes_get(u32 *count, u32 *size);
WASI(args_get) u32 args_get(char **argv, char *buffer);
WASI(environ_sizes_get) u32 environ_sizes_get(u32 *count, u32 *size);
WASI(environ_get) u32 environ_get(char **env, char *buffer);
WASI(fd_write) u32 fd_write(u32 fd, const void *vectors, u32 count, u32 *written);
WASI(fd_read) u32 fd_read(u32 fd, const void *vectors, u32 count, u32 *got);
WASI(fd_seek) u32 fd_seek(u32 fd, u64 offset, u32 whence, u64 *at);
WASI(fd_fdstat_get) u32 fd_fdstat_get(u32 fd, void *out);
WASI(path_open) u32 path_open(u32 fd, u32 flags, const char *path, u32 length, u32 oflags, u64 base,
                              u64 inheriting, u32 fdflags, u32 *opened);
WASI(clock_time_get) u32 clock_time_get(u32 clock, u64 precision, u64 *time);
WASI(clock_res_get) u32 clock_res_get(u32 clock, u64 *resolution);
WASI(poll_oneoff) u32 poll_oneoff(const void *in, void *out, u32 count, u32 *events);
WASI(random_get) u32 random_get(void *buffer, u32 length);
WASI(sched_yield) u32 sched_yield(void);
WASI(proc_raise) u32 proc_raise(u32 signal);
WASI(proc_exit) _Noreturn void proc_exit(u32 status);

static char buffer[4096];
static char *pointers[64];
struct vector { const void *data; u32 length; };

static u32 length(const char *text) { u32 n = 0; while (text[n]) n++; return n; }
static void put(u32 fd, const void *data, u32 size) {
    struct vector v = {data, size};
    u32 written;
    if (fd_write(fd, &v, 1, &written) || written != size) proc_exit(90);
}
static void say(const char *text) { put(1, text, length(text)); put(1, "\n", 1); }
static void number(u64 n) {
    char digits[24]; int i = 23; digits[i] = 0;
    do digits[--i] = '0' + n % 10; while (n /= 10);
    say(digits + i);
}
static void expect(u32 got, u32 wanted, u32 status) { if (got != wanted) proc_exit(status); }

struct clock { u64 user; u64 tag; u32 id; u64 timeout; u64 precision; unsigned short flags; };

__attribute__((export_name("_start"))) void start(void) {
    u32 count, size, got;
    u64 time, later;
    args_sizes_get(&count, &size);
    args_get(pointers, buffer);
    char what = count > 1 ? pointers[1][0] : 'a';
    if (what == 'a') {
        number(count);
        for (u32 i = 0; i < count; i++) say(pointers[i]);
        environ_sizes_get(&count, &size);
        environ_get(pointers, buffer);
        for (u32 i = 0; i < count; i++) say(pointers[i]);
        put(2, "done", 4);
    } else if (what == 'c') { /* cat */
        for (;;) {
            struct vector v = {buffer, 7};
            if (fd_read(0, &v, 1, &got)) proc_exit(91);
            if (!got) break;
            put(1, buffer, got);
        }
    } else if (what == 'e') {
        proc_exit(count > 2 ? (u32)(pointers[2][0] - '0') : 0);
    } else if (what == 's') { /* sleep 20 ms, or for ever */
        struct clock c = {7, 0, 1, what == pointers[1][1] ? ~0ull >> 1 : 20000000ull, 0, 0};
        char event[32];
        expect(clock_time_get(1, 0, &time), 0, 80);
        expect(poll_oneoff(&c, event, 1, &got), 0, 81);
        expect(got, 1, 82);
        expect((u32)event[0], 7, 83);
        expect(clock_time_get(1, 0, &later), 0, 84);
        if (later - time < 18000000ull) proc_exit(85);
        c.flags = 1; c.timeout = 1; /* long ago */
        expect(poll_oneoff(&c, event, 1, &got), 0, 86);
        struct clock both[2] = {{1, 0, 1, ~0ull >> 1, 0, 0}, {2, 1, 0, 0, 0, 0}};
        char events[64];
        expect(poll_oneoff(both, events, 2, &got), 0, 87);
        expect(got, 1, 88);
        expect((u32)events[0], 2, 89);
    } else if (what == 'r') {
        expect(random_get(buffer, 16), 0, 70);
        put(1, buffer, 16);
    } else if (what == 'o') { /* open what the second argument names, and say what is in it */
        struct vector v = {buffer + 2048, 1000};
        u32 file;
        got = path_open(3, 0, pointers[2], length(pointers[2]), 0, 2, 2, 0, &file);
        if (got) proc_exit(got);
        expect(fd_read(file, &v, 1, &got), 0, 92);
        put(1, buffer + 2048, got);
    } else if (what == 'f') { /* what there is not */
        u32 opened;
        u64 at;
        struct clock wrong = {7, 0, 9, 1, 0, 0};
        expect(path_open(3, 0, "/etc/passwd", 11, 0, 0, 0, 0, &opened), 8, 60);
        expect(fd_seek(1, 0, 0, &at), 70, 61);
        expect(fd_seek(5, 0, 0, &at), 8, 62);
        expect(fd_fdstat_get(0, buffer), 0, 63);
        expect(fd_fdstat_get(3, buffer), 8, 64);
        expect(fd_write(3, buffer, 1, &got), 8, 65);
        expect(fd_write(1, buffer, 5000, &got), 28, 66);
        expect(fd_read(3, buffer, 1, &got), 8, 67);
        expect(fd_read(0, buffer, 5000, &got), 28, 68);
        expect(clock_time_get(9, 0, &time), 28, 69);
        expect(clock_res_get(9, &time), 28, 71);
        expect(clock_res_get(0, &time), 0, 72);
        number(time);
        expect(poll_oneoff(&wrong, buffer, 1, &got), 28, 73);
        expect(poll_oneoff(&wrong, buffer, 0, &got), 28, 74);
        expect(sched_yield(), 0, 75);
        expect(proc_raise(9), 58, 76);
    } else if (what == 'w') { /* without end */
        for (;;) put(1, buffer, 4096);
    } else if (what == 'b') { /* beyond memory */
        random_get((void *)0xfffffff0u, 100);
    } else if (what == 'm') { /* more than may be */
        random_get(buffer, 0x7fffffff);
    }
}
