/** Counts GPT-4o's and later models' tokens exactly from now on: `import "@noburn/sdk/tokens/o200k_base"`. */

import ranks from "js-tiktoken/ranks/o200k_base";
import { useTokenizer } from "../ranks.js";
import { fromPackage, O200K_BASE } from "./packaged.js";

useTokenizer("o200k_base", fromPackage(O200K_BASE, ranks.bpe_ranks));
