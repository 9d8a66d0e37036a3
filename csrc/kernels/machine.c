/* SPDX-License-Identifier: MIT */
#include "kernels.h"

#include <string.h>

int mg_cpu_supports(const char *level)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (strcmp(level, "avx2") == 0) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (strcmp(level, "avx512") == 0) return has_avx512;
    if (strcmp(level, "avx512bf16") == 0) return has_avx512 && __builtin_cpu_supports("avx512bf16");
#endif
    return strcmp(level, "baseline") == 0;
}
