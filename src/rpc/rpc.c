/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rpc/rpc.h"

#include "core/clock.h"
#include "core/log.h"
#include "rpc/internal.h"

#include <grpc/support/log.h>
#include <grpc/support/time.h>

const char *ap_rpc_status_name(int status)
{
    switch ((enum ap_rpc_status)status) {
    case AP_RPC_OK:
        return "OK";
    case AP_RPC_CANCELLED:
        return "CANCELLED";
    case AP_RPC_UNKNOWN:
        break;
    case AP_RPC_INVALID_ARGUMENT:
        return "INVALID_ARGUMENT";
    case AP_RPC_DEADLINE_EXCEEDED:
        return "DEADLINE_EXCEEDED";
    case AP_RPC_NOT_FOUND:
        return "NOT_FOUND";
    case AP_RPC_PERMISSION_DENIED:
        return "PERMISSION_DENIED";
    case AP_RPC_RESOURCE_EXHAUSTED:
        return "RESOURCE_EXHAUSTED";
    case AP_RPC_FAILED_PRECONDITION:
        return "FAILED_PRECONDITION";
    case AP_RPC_OUT_OF_RANGE:
        return "OUT_OF_RANGE";
    case AP_RPC_UNIMPLEMENTED:
        return "UNIMPLEMENTED";
    case AP_RPC_INTERNAL:
        return "INTERNAL";
    case AP_RPC_UNAVAILABLE:
        return "UNAVAILABLE";
    case AP_RPC_UNAUTHENTICATED:
        return "UNAUTHENTICATED";
    }
    return "UNKNOWN";
}

/* What gRPC finds worth an error line (a peer that went away) is none to our users. */
static void log_line(gpr_log_func_args *args)
{
    ap_log_debug("grpc: %s (%s:%d)", args->message, args->file, args->line);
}

void ap_rpc_core_begin(void)
{
    gpr_set_log_function(log_line);
    grpc_init();
}

void ap_rpc_core_end(void)
{
    grpc_shutdown();
}

gpr_timespec ap_rpc_after(uint64_t ns)
{
    if (ns > INT64_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos((int64_t)ns, GPR_TIMESPAN));
}

grpc_arg ap_rpc_arg_int(const char *key, int value)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .value.integer = value};

    arg.key = (char *)(uintptr_t)key; /* gRPC copies it */
    return arg;
}

grpc_arg ap_rpc_arg_string(const char *key, const char *value)
{
    grpc_arg arg = {.type = GRPC_ARG_STRING};

    arg.key = (char *)(uintptr_t)key;
    arg.value.string = (char *)(uintptr_t)value;
    return arg;
}
