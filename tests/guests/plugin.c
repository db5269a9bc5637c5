/* An Extism plug-in, written against the host's functions themselves. */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
#define HOST(name) __attribute__((import_module("extism:host/env"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))
HOST(input_length) u64 input_length(void);
HOST(input_load_u8) u32 input_load_u8(u64 at);
HOST(input_load_u64) u64 input_load_u64(u64 at);
HOST(alloc) u64 alloc(u64 size);
HOST(free) void release(u64 at);
HOST(length) u64 length(u64 at);
HOST(load_u8) u32 load_u8(u64 at);
HOST(load_u64) u64 load_u64(u64 at);
HOST(store_u8) void store_u8(u64 at, u32 value);
HOST(store_u64) void store_u64(u64 at, u64 value);
HOST(output_set) void output_set(u64 at, u64 size);
HOST(error_set) void error_set(u64 at);
HOST(config_get) u64 config_get(u64 name);
HOST(var_get) u64 var_get(u64 name);
HOST(var_set) void var_set(u64 name, u64 value);
HOST(log_info) void log_info(u64 text);
HOST(http_request) u64 http_request(u64 request, u64 body);

static u64 text(const char *from) {
    u64 size = 0;
    while (from[size]) size++;
    u64 at = alloc(size);
    for (u64 i = 0; i < size; i++) store_u8(at + i, (u8)from[i]);
    return at;
}

EXPORT(echo) int echo(void) {
    u64 size = input_length(), at = alloc(size), i = 0;
    if (!at) return 2;
    for (; i + 8 <= size; i += 8) store_u64(at + i, input_load_u64(i));
    for (; i < size; i++) store_u8(at + i, input_load_u8(i));
    output_set(at, size);
    return 0;
}
EXPORT(count_vowels) int count_vowels(void) {
    u32 count = 0;
    for (u64 i = 0; i < input_length(); i++) {
        u32 c = input_load_u8(i) | 32;
        count += c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u';
    }
    u64 at = alloc(1);
    store_u8(at, '0' + count % 10);
    output_set(at, 1);
    return 0;
}
EXPORT(fail) int fail(void) { error_set(text("it went wrong")); return 1; }
EXPORT(fail_silently) int fail_silently(void) { return 3; }
EXPORT(configured) int configured(void) {
    u64 at = config_get(text("greeting"));
    if (!at) return 1;
    output_set(at, length(at));
    return 0;
}
EXPORT(counted) int counted(void) { /* a variable that grows by a byte at each call */
    u64 name = text("n"), before = var_get(name), size = before ? length(before) : 0;
    u64 at = alloc(size + 1);
    for (u64 i = 0; i < size; i++) store_u8(at + i, load_u8(before + i));
    store_u8(at + size, '#');
    var_set(name, at);
    output_set(at, length(at));
    log_info(at);
    release(at);
    return 0;
}
EXPORT(forget) int forget(void) { var_set(text("n"), 0); return 0; }
EXPORT(escape) int escape(void) { store_u64(0, ~0ull); return 0; }
EXPORT(escape_far) int escape_far(void) { return (int)load_u64(1ull << 40); }
EXPORT(read_beyond) int read_beyond(void) { return (int)input_load_u8(input_length()); }
EXPORT(lie) int lie(void) { output_set(1u << 20, 1u << 20); return 0; }
EXPORT(no_length) int no_length(void) { return (int)length(5) + (int)length(1 << 20) + (int)length(text("ab") + 1); }
EXPORT(hoard) int hoard(void) { u64 at; while ((at = alloc(1 << 20))) store_u8(at, 1); return 0; }
EXPORT(web) int web(void) { return (int)http_request(text("{}"), 0); }
EXPORT(add) int add(int a, int b) { return a + b; }
