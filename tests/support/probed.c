// Functions for probes; -O1 and noinline keep them where they are called. And a USDT probe, which
// the note below describes as SystemTap's sys/sdt.h would.
#include <stdlib.h>
#include <unistd.h>

unsigned short app_hit_semaphore __attribute__((section(".probes"), used));
__asm__(".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n"
	".size _.stapsdt.base,1\n.popsection\n");

__attribute__((noinline)) long first(long n) { __asm__ volatile("push %rbp; pop %rbp"); return n + 1; }
__attribute__((noinline)) long second(long n) { __asm__ volatile("push %rbp; pop %rbp"); return n + 2; }
__attribute__((noinline, naked)) long padded(long n) { __asm__(".byte 0x0f,0x1f,0x44,0x00,0x00; mov %rdi,%rax; ret"); }
__attribute__((noinline)) void hit(void)
{
	__asm__ volatile("990: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n"
			 ".4byte 992f-991f, 994f-993f, 3\n991: .asciz \"stapsdt\"\n"
			 "992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n"
			 ".8byte app_hit_semaphore\n.asciz \"app\"\n.asciz \"hit\"\n"
			 ".asciz \"\"\n994: .balign 4\n.popsection\n");
}

__attribute__((noinline)) void tell(int small, long large, short *there)
{
	__asm__ volatile("990: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n"
			 ".4byte 992f-991f, 994f-993f, 3\n991: .asciz \"stapsdt\"\n"
			 "992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n"
			 ".8byte 0\n.asciz \"app\"\n.asciz \"tell\"\n"
			 ".asciz \"-4@%[small] 8@%[large] -2@%[there] -4@$-9\"\n994: .balign 4\n.popsection\n"
			 :: [small] "r"(small), [large] "r"(large), [there] "m"(*there));
}

int main(int argc, char **argv)
{
	long sum = 0, times = argc > 1 ? atol(argv[1]) : 10;
	for (long n = 0; n < times; n++) {
		short there = -3 - n;
		sum += first(n) + second(n);
		tell(-1 - n, 1L << 40, &there);
		if (*(volatile unsigned short *)&app_hit_semaphore) // somebody listens
			hit();
	}
	return padded(sum) == -1;
}
