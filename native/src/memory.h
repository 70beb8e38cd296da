// Memory that kernels like: aligned to cache lines, zeroed, and on huge pages where it is large.
#pragma once

#include <cstddef>
#include <utility>

namespace octavo {

inline constexpr std::size_t kCacheLine = 64;

constexpr std::size_t round_up(std::size_t size, std::size_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

// `bytes` of zeroed memory, aligned to a cache line. Throws std::bad_alloc.
void* allocate_zeroed(std::size_t bytes);
void release(void* memory) noexcept;

// An array of plain values that owns its memory. Grows by forgetting what it held.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(std::size_t size) : data_(static_cast<T*>(allocate_zeroed(size * sizeof(T)))), size_(size) {}
  ~Array() { release(data_); }
  Array(Array&& other) noexcept { swap(other); }
  Array& operator=(Array&& other) noexcept {
    swap(other);
    return *this;
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  // Makes room for `size` values; what was here is lost if that takes new memory.
  void need(std::size_t size) {
    if (size > size_) *this = Array(size + size / 4);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  void swap(Array& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace octavo
