// Runs the CUDA kernels on the CPU, unchanged: every CUDA thread is a fiber that runs until it has to wait for others.
// Stands in for streamptycho/solve/cuda/device.cuh. Fibers run in an order shuffled by a seed, and now and then some of them
// fall behind, so that a missing barrier shows as a wrong outcome. Shared memory starts as NaN.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define CLUSTER(blocks)
#define SHARED(type, name) type* name = reinterpret_cast<type*>(emulation::current->block->shared)

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint3_ { unsigned x, y, z; };
inline float2 make_float2(float x, float y) { return {x, y}; }

namespace emulation {

struct Barrier {
    int expected = 0, arrived = 0;
    unsigned generation = 0;
};

struct Block {
    uint3_ index;
    int number;
    unsigned char* shared;
    Barrier all;
    std::vector<Barrier> warps;
    std::vector<char> asleep;
    std::vector<float> exchange;
};

struct Fiber {
    ucontext_t context;  // to begin with; later switches by longjmp, which asks nothing of the system
    jmp_buf place;
    Block* block;
    unsigned thread;
    bool begun = false, done = false, idle = false;
    const Barrier* waits_at = nullptr;
    unsigned since = 0;
};

inline Fiber* current = nullptr;
inline jmp_buf scheduler;
inline std::vector<std::unique_ptr<Block>> blocks;
inline uint3_ grid_shape, block_shape;
inline void (*kernel)(const void*);
inline const void* argument;
inline int cluster_size;
inline Barrier clusters[1024];
inline std::vector<std::unique_ptr<char[]>> stacks;  // kept from launch to launch

inline void yield() {
    if (_setjmp(current->place) == 0) _longjmp(scheduler, 1);
}

inline void resume(Fiber* fiber) {
    current = fiber;
    if (_setjmp(scheduler) != 0) return;
    if (fiber->begun) _longjmp(fiber->place, 1);
    fiber->begun = true;
    setcontext(&fiber->context);
}

inline void arrive_and_wait(Barrier& barrier) {
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        ++barrier.generation;
    } else {
        current->waits_at = &barrier;
        current->since = generation;
        yield();
        current->waits_at = nullptr;
    }
}

inline void enter() {
    kernel(argument);
    current->done = true;
    yield();
}

// Runs the given blocks side by side; false if they do not come to an end.
inline bool run_together(int first, int count, size_t shared_bytes, int cluster, std::mt19937& random) {
    constexpr size_t STACK = 64 * 1024;
    std::vector<std::unique_ptr<unsigned char[]>> shared;
    std::vector<std::unique_ptr<Fiber>> fibers;
    blocks.clear();
    blocks.resize(first + count);
    for (int b = first; b < first + count; ++b) {
        blocks[b] = std::make_unique<Block>();
        Block& block = *blocks[b];
        shared.emplace_back(static_cast<unsigned char*>(std::aligned_alloc(64, (shared_bytes + 127) / 64 * 64)));
        std::memset(shared.back().get(), 0xff, shared_bytes);  // not a number, until written
        block.shared = shared.back().get();
        block.number = b;
        block.index = {b % grid_shape.x, b / grid_shape.x, 0};
        block.all.expected = static_cast<int>(block_shape.x);
        block.warps.resize((block_shape.x + 31) / 32);
        block.asleep.resize(block.warps.size());
        for (size_t w = 0; w < block.warps.size(); ++w) block.warps[w].expected = std::min(32u, block_shape.x - 32 * (unsigned)w);
        block.exchange.resize(32 * block.warps.size());
        for (unsigned t = 0; t < block_shape.x; ++t) {
            auto fiber = std::make_unique<Fiber>();
            fiber->block = &block;
            fiber->thread = t;
            if (stacks.size() == fibers.size()) stacks.emplace_back(new char[STACK]);
            getcontext(&fiber->context);
            fiber->context.uc_stack.ss_sp = stacks[fibers.size()].get();
            fiber->context.uc_stack.ss_size = STACK;
            fiber->context.uc_link = nullptr;
            makecontext(&fiber->context, enter, 0);
            fibers.push_back(std::move(fiber));
        }
    }
    for (int c = 0; c * cluster < count; ++c) {
        clusters[c] = Barrier();
        clusters[c].expected = cluster * static_cast<int>(block_shape.x);
    }
    size_t left = fibers.size();
    int redraw = 0, fruitless = 0;
    for (int pass = 0; left > 0 && fruitless < 100000; ++pass) {
        if (pass >= redraw || fruitless) {  // another order, and some blocks and warps fall behind for a while
            redraw = pass + (8 << random() % 6);
            std::shuffle(fibers.begin(), fibers.end(), random);
            for (int b = first; b < first + count; ++b) {
                const bool asleep = count > 1 && random() % 3 == 0;
                for (auto& warp : blocks[b]->asleep) warp = asleep || random() % 4 == 0;
            }
        }
        ++fruitless;
        for (auto& fiber : fibers) {
            if (fiber->done || fiber->block->asleep[fiber->thread / 32]) continue;
            if (fiber->waits_at && fiber->waits_at->generation == fiber->since) continue;
            resume(fiber.get());
            left -= fiber->done;
            if (!fiber->idle) fruitless = 0;
        }
    }
    for (auto& bytes : shared) std::free(bytes.release());
    return left == 0;
}

}  // namespace emulation

#define threadIdx (uint3_{emulation::current->thread, 0, 0})
#define blockIdx (emulation::current->block->index)
#define blockDim emulation::block_shape
#define gridDim emulation::grid_shape

inline void __syncthreads() { emulation::arrive_and_wait(emulation::current->block->all); }
inline void __threadfence() {}
inline void wait_a_little() {
    emulation::current->idle = true;
    emulation::yield();
    emulation::current->idle = false;
}

inline float __shfl_down_sync(unsigned, float value, int offset) {
    auto& block = *emulation::current->block;
    const unsigned thread = emulation::current->thread, warp = thread / 32, lane = thread % 32;
    block.exchange[thread] = value;
    emulation::arrive_and_wait(block.warps[warp]);
    const unsigned from = lane + offset < 32 ? thread + offset : thread;
    const float result = block.exchange[from];
    emulation::arrive_and_wait(block.warps[warp]);
    return result;
}

inline int __float_as_int(float value) {
    int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

template <class T>
inline T atomicAdd(T* target, T value) {
    const T before = *target;
    *target = before + value;
    return before;
}
inline int atomicMax(int* target, int value) {
    const int before = *target;
    *target = std::max(before, value);
    return before;
}

inline void add(float2* target, float2 value) {
    target->x += value.x;
    target->y += value.y;
}
template <class T>
inline T fresh(const T* source) { return *source; }
inline unsigned polled(const unsigned* source) { return *static_cast<const volatile unsigned*>(source); }

inline float2* of_block(float2* own, int rank) {
    const auto& block = *emulation::current->block;
    const auto offset = reinterpret_cast<unsigned char*>(own) - block.shared;
    return reinterpret_cast<float2*>(emulation::blocks[block.number / emulation::cluster_size * emulation::cluster_size + rank]->shared + offset);
}
inline void cluster_barrier() { emulation::arrive_and_wait(emulation::clusters[emulation::current->block->number / emulation::cluster_size]); }

// Launch as cuLaunchKernel would. `together`: all blocks at once, as a launch that waits for itself needs; else one by one.
extern "C" int emulate(void (*kernel)(const void*), const void* argument, unsigned grid_x, unsigned grid_y, unsigned threads,
                       size_t shared_bytes, int together, int cluster, unsigned seed) {
    emulation::kernel = kernel;
    emulation::argument = argument;
    emulation::grid_shape = {grid_x, grid_y, 1};
    emulation::block_shape = {threads, 1, 1};
    std::mt19937 random(seed);
    emulation::cluster_size = cluster;
    const int count = static_cast<int>(grid_x * grid_y);
    if (together) return emulation::run_together(0, count, shared_bytes, cluster, random);
    std::vector<int> order(count);
    for (int b = 0; b < count; ++b) order[b] = b;
    std::shuffle(order.begin(), order.end(), random);
    for (int b : order) {
        if (!emulation::run_together(b, 1, shared_bytes, 1, random)) return 0;
    }
    return 1;
}
