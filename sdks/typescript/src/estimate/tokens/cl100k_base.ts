/** Counts GPT-4's and Claude's tokens by cl100k from now on: `import "@noburn/sdk/tokens/cl100k_base"`. */

import ranks from "js-tiktoken/ranks/cl100k_base";
import { useTokenizer } from "../ranks.js";
import { CL100K_BASE, fromPackage } from "./packaged.js";

useTokenizer("cl100k_base", fromPackage(CL100K_BASE, ranks.bpe_ranks));
