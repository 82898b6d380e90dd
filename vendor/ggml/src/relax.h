/* Included before everything else in ggml-cpu.c: how its threads wait for each other.
 *
 * They spin, with a pause instruction between two looks. That is the fastest way while each thread has a core
 * of its own; where another program wants the core too, the thread that is waited for may not run until the
 * scheduler takes the core from the one that waits, and every barrier costs a time slice. So after some
 * pauses, more than a barrier takes when all run, the core is offered to others. */

#pragma once

#if defined(__x86_64__)

#include <immintrin.h>
#include <sched.h>

/* About 20 to 70 microseconds; sched_yield takes less than one where nobody else waits. */
#define RELAX_PAUSES 1024

static inline void relax(void) {
    static _Thread_local unsigned n_pauses;
    __builtin_ia32_pause();
    if (++n_pauses % RELAX_PAUSES == 0) {
        sched_yield();
    }
}

#define _mm_pause relax

#endif
