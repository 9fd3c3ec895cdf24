// SPDX-License-Identifier: Apache-2.0
// The `@nats-io/transport-node` 3.x library. Argument: the server's port.
import * as lib from "@nats-io/transport-node";
import { run } from "./common.js";

await run(lib, (error) => error instanceof lib.errors.NoRespondersError || error.cause instanceof lib.errors.NoRespondersError);
