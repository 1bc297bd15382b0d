// What only a device knows: shared memory, atomics on complex numbers, waiting for other blocks, clusters. The tests put
// tests/solve/emulation.hpp in its place and run every kernel on the CPU.

#define SHARED(type, name)                                             \
    extern __shared__ __align__(16) unsigned char shared_bytes[];      \
    type* name = reinterpret_cast<type*>(shared_bytes)

__device__ inline void add(float2* target, float2 value) {
#if __CUDA_ARCH__ >= 900
    atomicAdd(target, value);
#else
    atomicAdd(&target->x, value.x);
    atomicAdd(&target->y, value.y);
#endif
}

// A value that blocks on other multiprocessors change during the same kernel: from the second-level cache.
__device__ inline float2 fresh(const float2* source) { return __ldcg(source); }
__device__ inline float fresh(const float* source) { return __ldcg(source); }
__device__ inline unsigned polled(const unsigned* source) { return *static_cast<const volatile unsigned*>(source); }

__device__ inline void wait_a_little() { __nanosleep(40); }

#if __CUDA_ARCH__ >= 900
#define CLUSTER(blocks) __cluster_dims__(blocks, 1, 1)

// The same address in the shared memory of another block of the cluster.
__device__ inline float2* of_block(float2* own, int rank) {
    return static_cast<float2*>(__cluster_map_shared_rank(own, static_cast<unsigned>(rank)));
}

__device__ inline void cluster_barrier() {
    __cluster_barrier_arrive();
    __cluster_barrier_wait();
}
#else  // no clusters: named by templates, called by no kernel
__device__ inline float2* of_block(float2* own, int) { return own; }
__device__ inline void cluster_barrier() { __syncthreads(); }
#endif
