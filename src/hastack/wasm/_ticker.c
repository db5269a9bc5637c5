/* The native thread that advances the epochs of all engines, whoever holds the GIL.
 *
 * Everything it needs comes in through the structure, so that the code has no relocations:
 *   clang -Os -fPIC -fno-stack-protector -fomit-frame-pointer -c _ticker.c
 *   objcopy -O binary -j .text _ticker.o _ticker.bin
 * tests/integration/test_wasm_ticker.py compiles it anew and runs what comes out.
 */
struct span { long seconds, nanoseconds; };

struct ticker {
    int (*clock_gettime)(int clock, struct span *now);
    int (*clock_nanosleep)(int clock, int flags, const struct span *until, struct span *left);
    int (*sem_wait)(void *semaphore);
    void (*increment_epoch)(void *engine);
    void *semaphore;
    long period;         /* nanoseconds */
    long most;           /* ticks made up for at once; a longer sleep is forgotten */
    volatile long until; /* when to stop, by the monotonic clock, in nanoseconds */
    volatile long last;  /* up to when ticks were made */
    volatile long passes;
    volatile long engines;
    long (*syscall)(long number, ...);
    long sched_setattr;
    void *attributes; /* a short slice, so that waking comes before what runs; or none */
    void *volatile engine[64];
};

void *run(struct ticker *t) {
    if (t->attributes) t->syscall(t->sched_setattr, 0, t->attributes, 0);
    for (;;) {
        struct span now;
        t->clock_gettime(1, &now);
        long at = now.seconds * 1000000000L + now.nanoseconds;
        long missed = (at - t->last) / t->period;
        if (missed > 0) {
            long due = missed > t->most ? t->most : missed;
            for (long i = 0; i < t->engines; i++)
                for (long k = 0; k < due; k++) t->increment_epoch(t->engine[i]);
            t->last = missed > t->most ? at : t->last + missed * t->period;
            t->passes++;
        }
        if (at > t->until) {
            t->sem_wait(t->semaphore);
        } else {
            long wake = t->last + t->period;
            struct span then = {wake / 1000000000L, wake % 1000000000L};
            t->clock_nanosleep(1, 1, &then, 0);
        }
    }
}
