// As much of a test framework as is needed here.
#pragma once

#include <cstdio>
#include <cstdlib>

// Ends the program where a condition does not hold, so that a sanitizer or debugger sees the place.
#define CHECK(condition, ...)                                                       \
  do {                                                                              \
    if (!(condition)) {                                                             \
      std::fprintf(stderr, "%s:%d: %s does not hold. ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, "" __VA_ARGS__);                                         \
      std::fprintf(stderr, "\n");                                                   \
      std::abort();                                                                 \
    }                                                                               \
  } while (false)
