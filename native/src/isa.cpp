#include "isa.h"

#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace octavo {

namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

constexpr bool bit(unsigned word, unsigned place) { return (word >> place & 1) != 0; }

// What the operating system saves when it switches threads (XCR0): registers beyond that must not be used.
unsigned long long saved_state() {
  if (!bit(cpuid(1, 0).c, 27)) return 0;  // OSXSAVE
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}

constexpr unsigned long long kYmm = 0x06, kZmm = 0xe6, kTiles = 0x60000;

bool saves(unsigned long long state) { return (saved_state() & state) == state; }

bool has_avx2() { return saves(kYmm) && bit(cpuid(7, 0).b, 5) && bit(cpuid(1, 0).c, 12); }  // with FMA

bool has_avx_vnni() { return has_avx2() && bit(cpuid(7, 1).a, 4); }

bool has_avx512_vnni() {
  const Registers r = cpuid(7, 0);
  const bool foundation = bit(r.b, 16) && bit(r.b, 17) && bit(r.b, 30) && bit(r.b, 31);  // F, DQ, BW, VL
  return has_avx2() && saves(kZmm) && foundation && bit(r.c, 11);
}

// Linux hands out the tile registers on request, once for the whole process.
bool has_amx() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  const Registers r = cpuid(7, 0);
  static const bool granted = has_avx512_vnni() && saves(kTiles) && bit(r.d, 24) && bit(r.d, 25) &&
                              syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}

#elif defined(__aarch64__)

#if defined(__APPLE__)
bool has_feature(const char* name) {
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__linux__)
bool has_dotprod() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }
bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) >> 13 & 1) != 0; }
#else
bool has_dotprod() { return false; }
bool has_i8mm() { return false; }
#endif

#endif

}  // namespace

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  if (has_amx()) found.push_back(&kAmxKernels);
  if (has_avx512_vnni()) found.push_back(&kAvx512VnniKernels);
  if (has_avx_vnni()) found.push_back(&kAvxVnniKernels);
  if (has_avx2()) found.push_back(&kAvx2Kernels);
#elif defined(__aarch64__)
  if (has_i8mm()) found.push_back(&kNeonI8mmKernels);
  if (has_dotprod()) found.push_back(&kNeonDotprodKernels);
#endif
  found.push_back(&kPortableKernels);
  return found;
}

const Kernels& chosen_kernels(const std::string& name) {
  const auto found = available_kernels();
  if (name.empty()) return *found.front();
  std::string names;
  for (const Kernels* kernels : found) {
    if (name == kernels->name) return *kernels;
    names += (names.empty() ? "" : ", ") + std::string(kernels->name);
  }
  throw std::invalid_argument("instruction set '" + name + "' is not to be had; this machine has " + names);
}

}  // namespace octavo
