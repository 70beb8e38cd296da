/* Loops of nothing but multiply-adds on registers: what no engine can beat. One loop per compilation (-DLOOP_...), so
   that a compiler that lacks one instruction set still builds the others. Each returns a value that depends on every
   product, so that none is optimised away; `steps` is how often the body runs. */
#include <stdint.h>

/* Twelve independent sums: enough to hide the latency of every multiply-add that there is. */
#define TWELVE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
/* The empty statement hides that the sums start alike: the compiler would keep one for all. */
#define START(i)       \
  VECTOR sum##i = zero; \
  __asm__ volatile("" : "+" REGISTER(sum##i));
#define STEP(i) sum##i = MULTIPLY_ADD(sum##i);
#define TOTAL(i) zero = ADD(zero, sum##i);
#define RUN_TWELVE                            \
  TWELVE(START)                               \
  for (long step = 0; step < steps; step++) { \
    TWELVE(STEP)                              \
  }                                           \
  TWELVE(TOTAL)

#if defined(__x86_64__)
#include <immintrin.h>
#define REGISTER "x"

#if defined(LOOP_FMA512) /* 12 * 16 * 2 operations a step */
#define VECTOR __m512
#define MULTIPLY_ADD(sum) _mm512_fmadd_ps(a, b, sum)
#define ADD(x, y) _mm512_add_ps(x, y)
__attribute__((target("avx512f"))) long peak(long steps) {
  const __m512 a = _mm512_set1_ps((float)steps), b = _mm512_set1_ps(1e-9f);
  __m512 zero = _mm512_setzero_ps();
  RUN_TWELVE
  return (long)_mm512_cvtss_f32(zero);
}

#elif defined(LOOP_FMA256) /* 12 * 8 * 2 */
#define VECTOR __m256
#define MULTIPLY_ADD(sum) _mm256_fmadd_ps(a, b, sum)
#define ADD(x, y) _mm256_add_ps(x, y)
__attribute__((target("avx2,fma"))) long peak(long steps) {
  const __m256 a = _mm256_set1_ps((float)steps), b = _mm256_set1_ps(1e-9f);
  __m256 zero = _mm256_setzero_ps();
  RUN_TWELVE
  return (long)_mm256_cvtss_f32(zero);
}

#elif defined(LOOP_VNNI512) /* 12 * 64 * 2 */
#define VECTOR __m512i
#define MULTIPLY_ADD(sum) _mm512_dpbusd_epi32(sum, a, b)
#define ADD(x, y) _mm512_add_epi32(x, y)
__attribute__((target("avx512f,avx512vnni"))) long peak(long steps) {
  const __m512i a = _mm512_set1_epi32((int)steps), b = _mm512_set1_epi32(0x01020304);
  __m512i zero = _mm512_setzero_si512();
  RUN_TWELVE
  return _mm_cvtsi128_si32(_mm512_castsi512_si128(zero));
}

#elif defined(LOOP_VNNI256) /* 12 * 32 * 2 */
#define VECTOR __m256i
#define MULTIPLY_ADD(sum) _mm256_dpbusd_avx_epi32(sum, a, b)
#define ADD(x, y) _mm256_add_epi32(x, y)
__attribute__((target("avx2,avxvnni"))) long peak(long steps) {
  const __m256i a = _mm256_set1_epi32((int)steps), b = _mm256_set1_epi32(0x01020304);
  __m256i zero = _mm256_setzero_si256();
  RUN_TWELVE
  return _mm256_extract_epi32(zero, 0);
}

#elif defined(LOOP_MADD256) /* 12 * 16 * 2: without VNNI, products of 16 bits, added in pairs and then in 32 bits */
#define VECTOR __m256i
/* The empty statement keeps the compiler from taking the product, which never changes, out of the loop. */
#define MULTIPLY_ADD(sum) ({ __asm__ volatile("" : "+x"(a)); _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); })
#define ADD(x, y) _mm256_add_epi32(x, y)
__attribute__((target("avx2"))) long peak(long steps) {
  const __m256i b = _mm256_set1_epi16(3);
  __m256i a = _mm256_set1_epi16((short)steps), zero = _mm256_setzero_si256();
  RUN_TWELVE
  return _mm256_extract_epi32(zero, 0);
}

#elif defined(LOOP_AMX) /* 4 * 16 * 16 * 64 * 2 */
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
__attribute__((target("amx-tile,amx-int8"))) long peak(long steps) {
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
  struct __attribute__((packed)) {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shape;
  uint8_t ones[16 * 64];
  int32_t sums[16 * 16];
  if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA)) return -1;
  memset(&shape, 0, sizeof shape);
  memset(ones, 1, sizeof ones);
  shape.palette = 1;
  for (int i = 0; i < 8; i++) {
    shape.bytes[i] = 64;
    shape.rows[i] = 16;
  }
  _tile_loadconfig(&shape);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  _tile_loadd(6, ones, 64);
  _tile_loadd(7, ones, 64);
  for (long step = 0; step < steps; step++) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_stored(0, sums, 64);
  _tile_release();
  return sums[0] & INT32_MAX;
}
#endif

#elif defined(__aarch64__)
#include <arm_neon.h>
#define REGISTER "w"

#if defined(LOOP_NEON_FMA) /* 12 * 4 * 2 */
#define VECTOR float32x4_t
#define MULTIPLY_ADD(sum) vfmaq_f32(sum, a, b)
#define ADD(x, y) vaddq_f32(x, y)
long peak(long steps) {
  const float32x4_t a = vdupq_n_f32((float)steps), b = vdupq_n_f32(1e-9f);
  float32x4_t zero = vdupq_n_f32(0);
  RUN_TWELVE
  return (long)vgetq_lane_f32(zero, 0);
}

#elif defined(LOOP_NEON_DOT) /* 12 * 16 * 2 */
#define VECTOR int32x4_t
#define MULTIPLY_ADD(sum) vdotq_s32(sum, a, b)
#define ADD(x, y) vaddq_s32(x, y)
__attribute__((target("arch=armv8.2-a+dotprod"))) long peak(long steps) {
  const int8x16_t a = vdupq_n_s8((int8_t)steps), b = vdupq_n_s8(3);
  int32x4_t zero = vdupq_n_s32(0);
  RUN_TWELVE
  return vgetq_lane_s32(zero, 0);
}
#endif
#endif
