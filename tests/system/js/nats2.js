// SPDX-License-Identifier: Apache-2.0
// The `nats` 2.x library. Argument: the server's port.
import * as lib from "nats";
import { run } from "./common.js";

await run(lib, (error) => error.code === lib.ErrorCode.NoResponders);
