/* One of each thing that a guest does, well or badly. */
#define EXPORT(name) __attribute__((export_name(#name)))
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

static u32 counter;

EXPORT(add) int add(int a, int b) { return a + b; }
EXPORT(add64) long long add64(long long a, long long b) { return a + b; }
EXPORT(half) double half(double a) { return a / 2; }
EXPORT(half32) float half32(float a) { return a / 2; }
EXPORT(count) u32 count(void) { return ++counter; }
EXPORT(nothing) void nothing(void) {}
EXPORT(spin) void spin(void) { for (volatile int i = 0;; i++); }
EXPORT(trap) void trap(void) { __builtin_trap(); }
EXPORT(recurse) u32 recurse(u32 n) { return n == ~0u ? 0 : recurse(n + 1) * 3 + (n ^ counter); }
EXPORT(divide) int divide(int a, int b) { return a / b; }
EXPORT(peek) int peek(u32 at) { return *(volatile u8 *)at; }
/* The upper half is the pointer, the lower the length. */
EXPORT(echo) u64 echo(const u8 *data, u32 length) { return (u64)(u32)data << 32 | length; }
EXPORT(beyond) u64 beyond(u32 length) { return (u64)0xfffffff0u << 32 | length; }
EXPORT(shout) u64 shout(u8 *data, u32 length) {
    for (u32 i = 0; i < length; i++)
        if (data[i] >= 'a' && data[i] <= 'z') data[i] -= 32;
    return echo(data, length);
}
EXPORT(length) u32 length(const char *text) {
    u32 n = 0;
    while (text[n]) n++;
    return n;
}
EXPORT(grow) int grow(int pages) { return (int)__builtin_wasm_memory_grow(0, pages); }
EXPORT(work) u32 work(u32 rounds) {
    u32 value = 1;
    for (u32 i = 0; i < rounds; i++) value = value * 1664525u + 1013904223u;
    return value;
}
