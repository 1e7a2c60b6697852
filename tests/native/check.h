/* CHECK(condition): says where and aborts, with or without NDEBUG, so that sanitizers and libFuzzer both see it. */
#ifndef COREQUOTE_TESTS_CHECK_H
#define COREQUOTE_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition);      \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

#endif
