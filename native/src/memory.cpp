#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace octavo {

namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kLarge = kHugePage / 8;  // from here on an array is worth a huge page
}

void* allocate_zeroed(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const bool large = bytes >= kLarge;
  const std::size_t alignment = large ? kHugePage : kCacheLine;
  void* memory = std::aligned_alloc(alignment, round_up(bytes, alignment));
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  // Weights are streamed at every call: with 4 KB pages, misses of the TLB cost up to a tenth of a short query.
  if (large) (void)madvise(memory, round_up(bytes, alignment), MADV_HUGEPAGE);
#endif
  std::memset(memory, 0, bytes);
  return memory;
}

void release(void* memory) noexcept { std::free(memory); }

}  // namespace octavo
