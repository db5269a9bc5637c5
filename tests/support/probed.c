// Functions for probes; -O1 and noinline keep them where they are called.
#include <stdlib.h>
#include <unistd.h>
__attribute__((noinline)) long first(long n) { __asm__ volatile("push %rbp; pop %rbp"); return n + 1; }
__attribute__((noinline)) long second(long n) { __asm__ volatile("push %rbp; pop %rbp"); return n + 2; }
__attribute__((noinline, naked)) long padded(long n) { __asm__(".byte 0x0f,0x1f,0x44,0x00,0x00; mov %rdi,%rax; ret"); }
int main(int argc, char **argv)
{
	long sum = 0, times = argc > 1 ? atol(argv[1]) : 10;
	for (long n = 0; n < times; n++) sum += first(n) + second(n);
	return padded(sum) == -1;
}
