/** Counts tokens by the public ranks from now on: `import "@noburn/sdk/tokens"`, with `js-tiktoken` installed. */

import "./cl100k_base.js";
import "./o200k_base.js";
